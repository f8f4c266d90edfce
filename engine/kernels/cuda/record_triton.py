"""The GPU kernel that records a layer: how often each neuron is above 0, and its sum, for each sentence.

A sentence's tokens are adjacent in a batch. One program sums a block of neurons over a sentence's tokens, in order, and
adds the result to the sentence's row. So no two programs write to the same place, and no sum depends on the rest of the
batch. The grid depends on shapes alone. All of its programs fit on the card at once, and a program first tests all rows
together, so that a step that records nothing costs one short wave. In a layer of experts, the tokens of a sentence that
reach the same expert are adjacent among the sorted pairs, and each expert has a row of its own.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from engine.kernels.activation import ActivationName
from engine.kernels.cuda.activation_triton import activate
from engine.kernels.cuda.expert_pairs import ExpertPairs

_BLOCK = 256
_PROGRAMS = 1056
"""Most programs of a launch, eight for each multiprocessor of an H100."""
_UNROLLED = 8
"""Tokens whose loads are in flight at once."""


def record(
    counts: torch.Tensor,
    sums: torch.Tensor,
    x: torch.Tensor,
    spans: torch.Tensor,
    layer: torch.Tensor,
    *,
    width: int,
    activation: ActivationName,
    constants: torch.Tensor | None = None,
    pairs: ExpertPairs | None = None,
) -> None:
    """Add the counts and sums of one layer.

    Args:
        counts: How often each neuron is above 0, int32 [L, R, at least F]; changed in place. A layer of experts has
            the E * F neurons of all of them.
        sums: Sums of activations, float32 of the same shape; changed in place.
        x: Inputs of the activation function in the first F columns, [T, F or 2F]; in a layer of experts those of the
            pairs.
        spans: Row r records the tokens spans[r, 0]:spans[r, 1]; int32 [R, 2]. In a layer of experts, it records the
            places spans[r * E + e, 0]:spans[r * E + e, 1] of expert e, see `ExpertPairs.spans`; int32 [R * E, 2].
        layer: Index of the layer to record, int32 [], on the device.
        width: Number of neurons of the layer, or of each of its experts, F.
        activation: The activation function.
        constants: Constants of the activation function, float32 on the device, see `MlpForm`; None if it has none.
        pairs: The pairs of a layer of experts; None for any other.
    """
    experts = 1 if pairs is None else pairs.experts
    rows, line = counts.shape[1] * experts, counts.shape[2]
    assert sums.shape == counts.shape
    assert width * experts <= line
    assert x.shape[1] in (width, 2 * width)
    assert x.is_contiguous()
    assert spans.shape == (rows, 2)
    blocks = triton.cdiv(width, _BLOCK)
    _record[(min(rows * blocks, _PROGRAMS),)](
        counts,
        sums,
        x,
        spans,
        layer,
        layer if constants is None else constants,
        spans if pairs is None else pairs.order,
        rows=rows,
        experts=experts,
        with_pairs=pairs is not None,
        width=width,
        line=line,
        stride=x.shape[1],
        blocks=blocks,
        block=_BLOCK,
        padded_rows=triton.next_power_of_2(rows),
        unrolled=_UNROLLED,
        activation=activation,
    )


@triton.jit  # type: ignore[untyped-decorator]
def _record(
    counts: tl.tensor,
    sums: tl.tensor,
    x: tl.tensor,
    spans: tl.tensor,
    layer: tl.tensor,
    constants: tl.tensor,
    order: tl.tensor,
    rows: tl.constexpr,
    experts: tl.constexpr,
    with_pairs: tl.constexpr,
    width: tl.constexpr,
    line: tl.constexpr,
    stride: tl.constexpr,
    blocks: tl.constexpr,
    block: tl.constexpr,
    padded_rows: tl.constexpr,
    unrolled: tl.constexpr,
    activation: tl.constexpr,
) -> None:
    """Handle every block of a row whose number is this program's modulo the number of programs.

    `stride` and `line` are the lengths of a row of `x` and of `counts`.
    """
    every = tl.arange(0, padded_rows)
    begins = tl.load(spans + every * 2, mask=every < rows, other=0)
    ends = tl.load(spans + every * 2 + 1, mask=every < rows, other=0)
    if tl.max(ends - begins) > 0:
        for part in range(tl.program_id(0), rows * blocks, tl.num_programs(0)):
            row = part // blocks
            first, end = tl.load(spans + row * 2), tl.load(spans + row * 2 + 1)
            if end > first:
                column = part % blocks * block + tl.arange(0, block)
                inside = column < width
                total = tl.zeros([block], tl.float32)
                positive = tl.zeros([block], tl.int32)
                gates = x + first.to(tl.int64) * stride + column
                for token in range(first, end, unrolled):
                    for ahead in tl.static_range(unrolled):
                        exists = inside & (token + ahead < end)
                        if with_pairs:
                            pair = tl.load(order + token + ahead, mask=token + ahead < end, other=0)
                            gate = tl.load(x + pair.to(tl.int64) * stride + column, mask=exists, other=0.0)
                        else:
                            gate = tl.load(gates + ahead * stride, mask=exists, other=0.0)
                        gate = gate.to(tl.float32)
                        active = activate(gate, activation, constants)
                        total += active  # 0 past the end, as every activation function maps 0 to 0
                        positive += (active > 0).to(tl.int32)
                    gates += unrolled * stride
                sentence = tl.load(layer).to(tl.int64) * (rows // experts) + row // experts
                entry = sentence * line + row % experts * width + column
                tl.store(sums + entry, tl.load(sums + entry, mask=inside) + total, mask=inside)
                tl.store(counts + entry, tl.load(counts + entry, mask=inside) + positive, mask=inside)
