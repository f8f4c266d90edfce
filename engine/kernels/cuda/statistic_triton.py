"""The GPU kernel that computes each token's statistic over the whole layer, before any intervention.

A program tests many tokens at once and ends if the slot of none of them uses a statistic and has entries in the layer.
So a batch without statistics costs one short wave of programs, although each claims a multiprocessor's registers: it
holds one token's activations in them. An order statistic is found bit by bit, by counting the activations below a
candidate, without sorting and without reading anything back to the host.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ampsweep.domain import statistic as kinds
from engine.kernels.activation import ActivationName
from engine.kernels.cuda.activation_triton import activate
from engine.kernels.device_table import TableBuffers

_PROGRAMS = 264
"""Most programs of a launch, two for each multiprocessor of an H100; more would only wait for registers."""
_TOKENS = 32
"""Tokens that a program tests at once."""
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
    layer: torch.Tensor,
    *,
    activation: ActivationName,
    gated: bool,
    constants: torch.Tensor | None = None,
    section: torch.Tensor | None = None,
    sections: int = 1,
) -> None:
    """Write each token's statistic in `layer` to `out`, float32 [at least T], for tokens whose slot uses one.

    The other arguments are those of `steer_triton.steer`; the table must have been made with `statistics`. A float32
    statistic agrees with the float64 one up to about the rounding of a sum of `width` numbers.

    Args:
        out: The statistics.
        x: See `steer_triton.steer`; for experts, the gates of all experts that a token reaches, [T, k * F].
        slots: See `steer_triton.steer`.
        table: See `steer_triton.steer`.
        layer: Index of the layer, int32 [], on the device.
        activation: See `steer_triton.steer`.
        gated: Whether `x` has up beside gate.
        constants: See `steer_triton.steer`.
        section: Index of the layer's first section, int32 [], on the device; None if each layer is a section.
        sections: The sections of the layer.
    """
    tokens = len(x)
    statistics = table.statistics
    assert statistics is not None
    width = x.shape[1] // (2 if gated else 1)
    assert sections > 1 or width <= table.width
    assert x.is_contiguous()
    assert min(len(slots), len(out)) >= tokens
    if not tokens:
        return
    padded = triton.next_power_of_2(width)
    _take[(min(tokens, _PROGRAMS),)](
        out,
        x,
        slots,
        table.offsets,
        statistics.plan,
        statistics.weights,
        tokens,
        layer,
        layer if section is None else section,
        layer if constants is None else constants,
        width=width,
        stride=x.shape[1],
        blocks=table.blocks * sections,
        line=table.offsets.shape[1],
        section_blocks=table.blocks,
        layers=statistics.plan.shape[1],
        activation=activation,
        padded=padded,
        group=_TOKENS,
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


@triton.jit(do_not_specialize=["tokens"])  # type: ignore[untyped-decorator]
def _take(
    out: tl.tensor,
    x: tl.tensor,
    slots: tl.tensor,
    offsets: tl.tensor,
    plan: tl.tensor,
    weights: tl.tensor,
    tokens: tl.tensor,
    layer: tl.tensor,
    section: tl.tensor,
    constants: tl.tensor,
    width: tl.constexpr,
    stride: tl.constexpr,
    blocks: tl.constexpr,
    line: tl.constexpr,
    section_blocks: tl.constexpr,
    layers: tl.constexpr,
    activation: tl.constexpr,
    padded: tl.constexpr,
    group: tl.constexpr,
) -> None:
    """Handle every token whose number is this program's modulo the number of programs, `group` of them at a time.

    `stride` and `line` are the lengths of a token's row of `x` and of a slot's line of offsets. `blocks` are those of
    the layer, in all of its sections.
    """
    programs = tl.num_programs(0)
    index = tl.load(layer)
    first_block = tl.load(section) * section_blocks
    for start in range(tl.program_id(0), tokens, programs * group):
        tested = start + programs * tl.arange(0, group)
        tested_slot = tl.load(slots + tested, mask=tested < tokens, other=0)  # slot 0 has no entries
        tested_kind = tl.load(plan + (tested_slot * layers + index) * 3)
        tested_begin = offsets + tested_slot.to(tl.int64) * line + first_block
        uses = (tested_kind != 0) & (tl.load(tested_begin + blocks) > tl.load(tested_begin))
        if tl.max(uses.to(tl.int32)) > 0:
            for token in range(start, tl.minimum(start + programs * group, tokens), programs):
                planned = tl.load(slots + token) * layers + index
                kind = tl.load(plan + planned * 3)
                begin = offsets + tl.load(slots + token).to(tl.int64) * line + first_block
                if (kind != 0) & (tl.load(begin + blocks) > tl.load(begin)):
                    column = tl.arange(0, padded)
                    inside = column < width
                    gate = tl.load(x + tl.cast(token, tl.int64) * stride + column, mask=inside, other=0.0).to(
                        tl.float32
                    )
                    active = activate(gate, activation, constants)
                    value = _statistic(active, inside, kind, plan + planned * 3 + 1, weights + planned * 2, width)
                    tl.store(out + token, value)


@triton.jit  # type: ignore[untyped-decorator]
def _statistic(
    active: tl.tensor,
    inside: tl.tensor,
    kind: tl.tensor,
    ranks: tl.tensor,
    weights: tl.tensor,
    width: tl.constexpr,
) -> tl.tensor:
    """Return the statistic of this kind over the `width` numbers of `active` that are `inside`."""
    mean = tl.sum(tl.where(inside, active, 0.0)) / width
    value = mean
    if kind == _STD:
        distance = tl.where(inside, active - mean, 0.0)
        value = tl.sqrt(tl.sum(distance * distance) / (width - 1))
    if kind == _MAX:
        value = tl.max(tl.where(inside, active, float("-inf")))
    if kind >= _QUANTILE:
        rank, weight = tl.load(ranks), tl.load(weights)
        keys = tl.where(inside, _ordered(active), 0xFFFFFFFF)
        value = _quantile(keys, rank, weight)
        if kind == _SPREAD:
            value -= _quantile(keys, tl.load(ranks + 1), tl.load(weights + 1))
        if kind == _DEVIATION:
            value = _quantile(tl.where(inside, _ordered(tl.abs(active - value)), 0xFFFFFFFF), rank, weight)
    return value
