"""The GPU kernel that records a layer: how often each neuron is above 0, and its sum, for each sentence.

A sentence's tokens are adjacent in a batch. One program sums a block of neurons over a sentence's tokens, in order, and
adds the result to the sentence's row. So no two programs write to the same place, and no sum depends on the rest of the
batch. For a row without tokens a program only reads two numbers. The grid depends on shapes alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl

from engine.kernels.activation import ActivationName
from engine.kernels.activation_triton import activate, kernel_constants

_BLOCK = 256


def record(
    counts: torch.Tensor,
    sums: torch.Tensor,
    x: torch.Tensor,
    spans: torch.Tensor,
    layer: int,
    *,
    width: int,
    activation: ActivationName,
    constants: Sequence[float] = (),
) -> None:
    """Add the counts and sums of one layer.

    Args:
        counts: How often each neuron is above 0, int32 [L, R, at least F]; changed in place.
        sums: Sums of activations, float32 of the same shape; changed in place.
        x: Inputs of the activation function in the first F columns, [T, F or 2F].
        spans: Row r records the tokens spans[r, 0]:spans[r, 1]; int32 [R, 2].
        layer: The layer to record.
        width: Number of neurons of the layer, F.
        activation: The activation function.
        constants: Constants of the activation function, see `MlpForm`.
    """
    _, rows, line = counts.shape
    assert sums.shape == counts.shape
    assert width <= line
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
        *kernel_constants(constants),
        rows=rows,
        width=width,
        line=line,
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
    alpha_p: tl.tensor,
    alpha_n: tl.tensor,
    beta: tl.tensor,
    rows: tl.constexpr,
    width: tl.constexpr,
    line: tl.constexpr,
    stride: tl.constexpr,
    blocks: tl.constexpr,
    block: tl.constexpr,
    activation: tl.constexpr,
) -> None:
    """Handle one block of one row; `stride` and `line` are the lengths of a row of `x` and of `counts`."""
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
            gate = tl.load(gates, mask=inside, other=0.0).to(tl.float32)
            active = activate(gate, activation, alpha_p, alpha_n, beta)
            total += active
            positive += (active > 0).to(tl.int32)
            gates += stride
        entry = (layer.to(tl.int64) * rows + row) * line + column
        tl.store(sums + entry, tl.load(sums + entry, mask=inside) + total, mask=inside)
        tl.store(counts + entry, tl.load(counts + entry, mask=inside) + positive, mask=inside)
