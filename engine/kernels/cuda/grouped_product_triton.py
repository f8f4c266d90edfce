"""The GPU kernel that multiplies each pair of a token and an expert by a projection of its expert.

A program multiplies one tile of pairs by a block of the projection's outputs, and sums in float32. It finds its expert
in the pairs' tiles; programs beyond the last tile end at once. So the grid depends on shapes alone, and nothing is read
back to the host. Float32 is multiplied in float32, not in TF32.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from engine.kernels.cuda.expert_pairs import ExpertPairs

OUTPUTS = {16: 64, 64: 128}
"""Outputs of a program, by the places of its tile."""
INPUT_BYTES = {16: 256, 64: 128}
"""Bytes of a row of inputs that a program loads at once, by the places of its tile."""
STAGES = 3
"""Loads in flight; together they need at most 72 KiB of the shared memory of a multiprocessor."""
_WARPS = 4


def multiply(
    out: torch.Tensor,
    x: torch.Tensor,
    weights: torch.Tensor,
    pairs: ExpertPairs,
    *,
    each: int = 1,
    biases: torch.Tensor | None = None,
    shares: torch.Tensor | None = None,
) -> None:
    """Compute out[p] = (weights[e] @ x[p // each] + biases[e]) * shares[p] for each pair p, of expert e.

    Rows of pairs whose expert does not exist are left as they are.

    Args:
        out: [P, N], contiguous.
        x: [P / each, K], contiguous.
        weights: [E, N, K], contiguous, of the dtype of `x`.
        pairs: The pairs.
        each: Pairs that have the same row of `x`.
        biases: [E, N], contiguous; None for 0.
        shares: [P], contiguous; None for 1.
    """
    total, outputs = out.shape
    inputs = x.shape[1]
    assert total == len(pairs.chosen) == len(x) * each
    assert weights.shape == (pairs.experts, outputs, inputs)
    assert weights.dtype == x.dtype
    assert biases is None or biases.shape == (pairs.experts, outputs)
    assert shares is None or shares.shape == (total,)
    assert all(part is None or part.is_contiguous() for part in (out, x, weights, biases, shares))
    if not total:
        return
    block, depth = OUTPUTS[pairs.tile], INPUT_BYTES[pairs.tile] // x.element_size()
    blocks = triton.cdiv(outputs, block)
    _multiply[(pairs.most_tiles * blocks,)](
        out,
        x,
        weights,
        weights if biases is None else biases,
        weights if shares is None else shares,
        pairs.order,
        pairs.ends,
        pairs.tile_ends,
        each=each,
        experts=pairs.experts,
        padded_experts=triton.next_power_of_2(pairs.experts),
        inputs=inputs,
        outputs=outputs,
        with_biases=biases is not None,
        with_shares=shares is not None,
        tile=pairs.tile,
        block=block,
        blocks=blocks,
        depth=depth,
        num_warps=_WARPS,
        num_stages=STAGES,
    )


@triton.jit  # type: ignore[untyped-decorator]
def _multiply(
    out: tl.tensor,
    x: tl.tensor,
    weights: tl.tensor,
    biases: tl.tensor,
    shares: tl.tensor,
    order: tl.tensor,
    ends: tl.tensor,
    tile_ends: tl.tensor,
    each: tl.constexpr,
    experts: tl.constexpr,
    padded_experts: tl.constexpr,
    inputs: tl.constexpr,
    outputs: tl.constexpr,
    with_biases: tl.constexpr,
    with_shares: tl.constexpr,
    tile: tl.constexpr,
    block: tl.constexpr,
    blocks: tl.constexpr,
    depth: tl.constexpr,
) -> None:
    """Handle `tile` places and `block` outputs, `depth` inputs at a time; neighbouring programs have the same tile."""
    number = tl.program_id(0) // blocks
    every = tl.arange(0, padded_experts)
    past = tl.load(tile_ends + every, mask=every < experts, other=2147483647)
    expert = tl.sum((past <= number).to(tl.int32))
    if expert < experts:
        first_tile = tl.load(tile_ends + expert - 1, mask=expert > 0, other=0)
        first = tl.load(ends + expert - 1, mask=expert > 0, other=0)
        place = first + (number - first_tile) * tile + tl.arange(0, tile)
        exists = place < tl.load(ends + expert)
        pair = tl.load(order + place, mask=exists, other=0)
        output = tl.program_id(0) % blocks * block + tl.arange(0, block)
        inside = output < outputs
        column = tl.arange(0, depth)
        row = weights + expert.to(tl.int64) * (outputs * inputs) + output.to(tl.int64)[None, :] * inputs
        rows = x + (pair // each).to(tl.int64)[:, None] * inputs
        total = tl.zeros([tile, block], tl.float32)
        for start in range(0, inputs, depth):
            read = start + column < inputs
            left = tl.load(rows + (start + column)[None, :], mask=exists[:, None] & read[None, :], other=0.0)
            right = tl.load(row + (start + column)[:, None], mask=inside[None, :] & read[:, None], other=0.0)
            total = tl.dot(left, right, total, input_precision="ieee")
        if with_biases:
            total += tl.load(biases + expert * outputs + output, mask=inside, other=0.0).to(tl.float32)[None, :]
        if with_shares:
            total *= tl.load(shares + pair, mask=exists, other=0.0).to(tl.float32)[:, None]
        target = out + pair.to(tl.int64)[:, None] * outputs + output[None, :]
        tl.store(target, total.to(out.dtype.element_ty), mask=exists[:, None] & inside[None, :])
