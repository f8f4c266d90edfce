"""Summing up a layer's activations sentence by sentence: how often each neuron is above 0, and its sum.

A sentence's tokens stand together in a batch, so one program sums a block of neurons over a sentence's tokens, in their
order, and adds the result to the sentence's row: no two programs write to one place, and no sum depends on what else is
in the batch. A row without tokens costs programs that read two numbers and end. The grid depends on shapes alone.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from engine.kernels.activation import ActivationName
from engine.kernels.activation_triton import activate

_BLOCK = 256


def record(
    counts: torch.Tensor,
    sums: torch.Tensor,
    x: torch.Tensor,
    spans: torch.Tensor,
    layer: int,
    *,
    activation: ActivationName,
) -> None:
    """Add to `counts` int32 and `sums` float32, both [L, R, F], what the tokens of `x` have in `layer`.

    Row r takes the tokens spans[r, 0]:spans[r, 1] of `x` [T, F or 2F], whose first F columns are what the activation
    function is taken of; `spans` is int32 [R, 2].
    """
    _, rows, width = counts.shape
    assert sums.shape == counts.shape
    assert x.shape[1] in (width, 2 * width)
    assert x.is_contiguous()
    assert spans.shape == (rows, 2)
    blocks = triton.cdiv(width, _BLOCK)
    _record[(rows * blocks,)](
        counts,
        sums,
        x,
        spans,
        layer,
        rows=rows,
        width=width,
        stride=x.shape[1],
        blocks=blocks,
        block=_BLOCK,
        activation=activation,
    )


@triton.jit(do_not_specialize=["layer"])  # type: ignore[untyped-decorator]
def _record(
    counts: tl.tensor,
    sums: tl.tensor,
    x: tl.tensor,
    spans: tl.tensor,
    layer: tl.tensor,
    rows: tl.constexpr,
    width: tl.constexpr,
    stride: tl.constexpr,
    blocks: tl.constexpr,
    block: tl.constexpr,
    activation: tl.constexpr,
) -> None:
    """Handle one block of one row; `stride` is the length of a token's row of `x`."""
    row = tl.program_id(0) // blocks
    first = tl.load(spans + row * 2)
    end = tl.load(spans + row * 2 + 1)
    if end > first:
        column = tl.program_id(0) % blocks * block + tl.arange(0, block)
        inside = column < width
        total = tl.zeros([block], tl.float32)
        positive = tl.zeros([block], tl.int32)
        gates = x + first.to(tl.int64) * stride + column
        for _ in range(first, end):
            active = activate(tl.load(gates, mask=inside, other=0.0).to(tl.float32), activation)
            total += active
            positive += (active > 0).to(tl.int32)
            gates += stride
        at = (layer.to(tl.int64) * rows + row) * width + column
        tl.store(sums + at, tl.load(sums + at, mask=inside) + total, mask=inside)
        tl.store(counts + at, tl.load(counts + at, mask=inside) + positive, mask=inside)
