"""The GPU kernel that computes each token's statistic over the whole layer, before any intervention.

For a token whose slot uses no statistic, or has no entries in the layer, a program only reads three numbers. A program
holds one token's activations in registers. An order statistic is found bit by bit, by counting the activations below a
candidate, without sorting and without reading anything back to the host.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl

from ampsweep.domain import statistic as kinds
from engine.kernels.activation import ActivationName
from engine.kernels.activation_triton import activate, kernel_constants
from engine.kernels.device_table import TableBuffers

_STD = tl.constexpr(kinds.STD)
_MAX = tl.constexpr(kinds.MAX)
_QUANTILE = tl.constexpr(kinds.QUANTILE)
_SPREAD = tl.constexpr(kinds.SPREAD)
_DEVIATION = tl.constexpr(kinds.DEVIATION)


def take(
    out: torch.Tensor,
    x: torch.Tensor,
    slots: torch.Tensor,
    table: TableBuffers,
    layer: int,
    *,
    activation: ActivationName,
    gated: bool,
    constants: Sequence[float] = (),
) -> None:
    """Write each token's statistic in `layer` to `out`, float32 [at least T], for tokens whose slot uses one.

    The other arguments are those of `steer_triton.steer`; the table must have been made with `statistics`. A float32
    statistic agrees with the float64 one up to about the rounding of a sum of `width` numbers.
    """
    tokens = len(x)
    statistics = table.statistics
    assert statistics is not None
    width = x.shape[1] // (2 if gated else 1)
    assert width <= table.width
    assert x.is_contiguous()
    assert min(len(slots), len(out)) >= tokens
    assert 0 <= layer < table.layers
    if not tokens:
        return
    padded = triton.next_power_of_2(width)
    _take[(tokens,)](
        out,
        x,
        slots,
        table.offsets,
        statistics.plan,
        statistics.weights,
        layer,
        *kernel_constants(constants),
        width=width,
        stride=x.shape[1],
        blocks=table.blocks,
        layers=table.layers,
        line=table.layers * table.blocks + 1,
        activation=activation,
        padded=padded,
        num_warps=min(max(padded // 1024, 4), 16),
    )


@triton.jit  # type: ignore[untyped-decorator]
def _ordered(value: tl.tensor) -> tl.tensor:
    """Return uint32 keys in the order of the float32 values."""
    bits = value.to(tl.int32, bitcast=True)
    return (bits ^ ((bits >> 31) | -2147483648)).to(tl.uint32, bitcast=True)


@triton.jit  # type: ignore[untyped-decorator]
def _value(key: tl.tensor) -> tl.tensor:
    """Return the float32 value of a key of `_ordered`."""
    bits = key.to(tl.int32, bitcast=True)
    return (bits ^ (~(bits >> 31) | -2147483648)).to(tl.float32, bitcast=True)


@triton.jit  # type: ignore[untyped-decorator]
def _quantile(keys: tl.tensor, rank: tl.tensor, weight: tl.tensor) -> tl.tensor:
    """Return the value of a rank, interpolated to the next by `weight`; padding has the largest key."""
    selected = tl.full((), 0, tl.uint32)
    bit = tl.full((), 1 << 31, tl.uint32)
    for _ in range(32):
        candidate = selected | bit
        below = tl.sum((keys < candidate).to(tl.int32))
        selected = tl.where(below <= rank, candidate, selected)
        bit = bit >> 1
    value = _value(selected)
    if weight > 0.0:
        up_to = tl.sum((keys <= selected).to(tl.int32))
        following = tl.min(tl.where(keys > selected, keys, 0xFFFFFFFF))
        value += weight * (_value(tl.where(up_to > rank + 1, selected, following)) - value)
    return value


@triton.jit(do_not_specialize=["layer"])  # type: ignore[untyped-decorator]
def _take(
    out: tl.tensor,
    x: tl.tensor,
    slots: tl.tensor,
    offsets: tl.tensor,
    plan: tl.tensor,
    weights: tl.tensor,
    layer: tl.tensor,
    alpha_p: tl.tensor,
    alpha_n: tl.tensor,
    beta: tl.tensor,
    width: tl.constexpr,
    stride: tl.constexpr,
    blocks: tl.constexpr,
    layers: tl.constexpr,
    line: tl.constexpr,
    activation: tl.constexpr,
    padded: tl.constexpr,
) -> None:
    """Handle one token; `stride` and `line` are the lengths of its row of `x` and of a slot's line of offsets."""
    token = tl.program_id(0)
    slot = tl.load(slots + token)
    planned = slot * layers + layer
    kind = tl.load(plan + planned * 3)
    begins = offsets + slot.to(tl.int64) * line + layer * blocks
    entries = tl.load(begins + blocks) - tl.load(begins)
    if (kind != 0) & (entries > 0):
        column = tl.arange(0, padded)
        inside = column < width
        gate = tl.load(x + token.to(tl.int64) * stride + column, mask=inside, other=0.0).to(tl.float32)
        active = activate(gate, activation, alpha_p, alpha_n, beta)
        mean = tl.sum(tl.where(inside, active, 0.0)) / width
        value = mean
        if kind == _STD:
            distance = tl.where(inside, active - mean, 0.0)
            value = tl.sqrt(tl.sum(distance * distance) / (width - 1))
        if kind == _MAX:
            value = tl.max(tl.where(inside, active, float("-inf")))
        if kind >= _QUANTILE:
            rank = tl.load(plan + planned * 3 + 1)
            weight = tl.load(weights + planned * 2)
            keys = tl.where(inside, _ordered(active), 0xFFFFFFFF)
            value = _quantile(keys, rank, weight)
            if kind == _SPREAD:
                value -= _quantile(keys, tl.load(plan + planned * 3 + 2), tl.load(weights + planned * 2 + 1))
            if kind == _DEVIATION:
                value = _quantile(tl.where(inside, _ordered(tl.abs(active - value)), 0xFFFFFFFF), rank, weight)
        tl.store(out + token, value)
