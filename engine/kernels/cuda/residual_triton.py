"""The GPU kernels of the residual stream at a layer's output: adding the slots' vectors, and recording.

Grids depend on shapes alone, and nothing is read back to the host. A program that has nothing to add or to record reads
a number or two and ends. Everything is computed in float32 and rounded once.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from engine.kernels.device_table import VectorBuffers

_MAX_BLOCK = 1024
_UNROLLED = 4
"""Tokens whose loads are in flight at once while a sentence is recorded."""
RECORD_REGISTERS = 64
"""Registers of a thread that records. With the 32 that the compiler would take, each load waits for the one before."""


def add(
    hidden: torch.Tensor, slots: torch.Tensor, strengths: torch.Tensor, vectors: VectorBuffers, layer: torch.Tensor
) -> None:
    """Add to each token the vector of its slot, in place: hidden' = hidden + strength * vector.

    Args:
        hidden: [T, H], contiguous; changed in place.
        slots: Each token's slot, int32 [at least T].
        strengths: Each token's strength, float32 [at least T].
        vectors: The slots' vectors.
        layer: Index of the layer, int32 [], on the device.
    """
    tokens, width = hidden.shape
    _, layers, size = vectors.values.shape
    assert width == size
    assert hidden.is_contiguous()
    assert len(slots) >= tokens
    assert len(strengths) >= tokens
    if not tokens:
        return
    block = min(_MAX_BLOCK, triton.next_power_of_2(width))
    blocks = triton.cdiv(width, block)
    _add[(tokens * blocks,)](
        hidden,
        slots,
        strengths,
        vectors.adds,
        vectors.values,
        layer,
        layers=layers,
        width=width,
        blocks=blocks,
        block=block,
    )


def record(
    sums: torch.Tensor, hidden: torch.Tensor, residual: torch.Tensor | None, spans: torch.Tensor, layer: torch.Tensor
) -> None:
    """Add the sums of one layer's output, `hidden`, or `hidden` + `residual` where the model has not added them yet.

    Args:
        sums: float32 [L, R, H]; changed in place.
        hidden: [T, H], contiguous.
        residual: Of the shape of `hidden`, contiguous.
        spans: Row r records the tokens spans[r, 0]:spans[r, 1]; int32 [R, 2].
        layer: Index of the layer to record, int32 [], on the device.
    """
    _, rows, width = sums.shape
    assert hidden.shape[1] == width
    assert hidden.is_contiguous()
    assert residual is None or (residual.shape == hidden.shape and residual.is_contiguous())
    assert spans.shape == (rows, 2)
    block = min(_MAX_BLOCK, triton.next_power_of_2(width))
    blocks = triton.cdiv(width, block)
    _record[(rows * blocks,)](
        sums,
        hidden,
        hidden if residual is None else residual,
        spans,
        layer,
        rows=rows,
        width=width,
        blocks=blocks,
        block=block,
        unrolled=_UNROLLED,
        with_residual=residual is not None,
        maxnreg=RECORD_REGISTERS,
    )


@triton.jit  # type: ignore[untyped-decorator]
def _add(
    hidden: tl.tensor,
    slots: tl.tensor,
    strengths: tl.tensor,
    adds: tl.tensor,
    values: tl.tensor,
    layer: tl.tensor,
    layers: tl.constexpr,
    width: tl.constexpr,
    blocks: tl.constexpr,
    block: tl.constexpr,
) -> None:
    """Handle `block` numbers of one token."""
    token = tl.program_id(0) // blocks
    slot = tl.load(slots + token)
    if slot > 0:
        row = slot.to(tl.int64) * layers + tl.load(layer)
        if tl.load(adds + row) != 0:
            column = tl.program_id(0) % blocks * block + tl.arange(0, block)
            inside = column < width
            pointers = hidden + token.to(tl.int64) * width + column
            value = tl.load(pointers, mask=inside, other=0.0).to(tl.float32)
            value += tl.load(strengths + token) * tl.load(values + row * width + column, mask=inside, other=0.0)
            tl.store(pointers, value.to(hidden.dtype.element_ty), mask=inside)


@triton.jit  # type: ignore[untyped-decorator]
def _record(
    sums: tl.tensor,
    hidden: tl.tensor,
    residual: tl.tensor,
    spans: tl.tensor,
    layer: tl.tensor,
    rows: tl.constexpr,
    width: tl.constexpr,
    blocks: tl.constexpr,
    block: tl.constexpr,
    unrolled: tl.constexpr,
    with_residual: tl.constexpr,
) -> None:
    """Handle one block of one row, in the order of its tokens."""
    row = tl.program_id(0) // blocks
    first = tl.load(spans + row * 2)
    end = tl.load(spans + row * 2 + 1)
    if end > first:
        column = tl.program_id(0) % blocks * block + tl.arange(0, block)
        inside = column < width
        total = tl.zeros([block], tl.float32)
        pointers = first.to(tl.int64) * width + column
        for token in range(first, end, unrolled):
            for ahead in tl.static_range(unrolled):
                exists = inside & (token + ahead < end)
                total += tl.load(hidden + pointers, mask=exists, other=0.0).to(tl.float32)
                if with_residual:
                    total += tl.load(residual + pointers, mask=exists, other=0.0).to(tl.float32)
                pointers += width
        cell = sums + (tl.load(layer).to(tl.int64) * rows + row) * width + column
        tl.store(cell, tl.load(cell, mask=inside) + total, mask=inside)
