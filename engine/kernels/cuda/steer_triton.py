"""The GPU steering kernel: activation, interventions and the product with up in one pass over the data.

It replaces an MLP's activation-and-multiply. A program handles a block of neurons of one or two tokens. It computes and
stores the block without steering. If a token's slot has entries in the block, it then recomputes those neurons from
inputs that are still in the cache and overwrites the first result. So the cost is proportional to the neurons changed.
The grid depends on shapes alone, and nothing is read back to the host.

Everything is computed in float32 and rounded once, with the same arithmetic for changed and unchanged neurons, so a
neutral entry changes no bit.

In a layer of experts, the kernel handles pairs of a token and an expert like tokens. A pair has the slot of its token,
and the section of its expert in the table.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from engine.kernels.activation import ActivationName
from engine.kernels.cuda.activation_triton import activate
from engine.kernels.cuda.expert_pairs import ExpertPairs
from engine.kernels.device_table import TableBuffers

_WARPS = 4
_THREADS = 32 * _WARPS
LONG_BATCH = 2048
"""From this many tokens on, a program handles two: more loads are in flight, and both may share cached entries."""
REGISTERS = {1: None, 2: 56}
"""Registers of a thread, by the tokens of its program. With None the compiler takes 32, of which there are enough for
every thread that fits on a multiprocessor. For two tokens it would then load one after the other."""


def steer(
    out: torch.Tensor,
    x: torch.Tensor,
    slots: torch.Tensor,
    table: TableBuffers,
    layer: torch.Tensor,
    *,
    activation: ActivationName,
    gated: bool,
    strengths: torch.Tensor,
    constants: torch.Tensor | None = None,
    statistic: torch.Tensor | None = None,
    pairs: ExpertPairs | None = None,
) -> None:
    """Compute `out` from `x`, steered by each token's slot.

    With a the activation of the gate, out = a' * up if gated, else out = a'. For the entries of the token's slot in
    `layer` a' = factor * a + strength * (add + coef * statistic), where factor = 1 - strength + strength * mult;
    elsewhere a' = a. With factor 0, a is not read, so it may be infinite; where a' is 0 for that reason, neither is up.

    Args:
        out: [T, F], contiguous, of the dtype of `x`; must not overlap it. With `pairs` it has a row for each of them.
        x: Gate and up side by side, [T, 2F], if gated, else [T, F]; contiguous.
        slots: Each token's slot, int32 [at least T].
        table: The slots' entries.
        layer: Index of the table's section to steer, int32 [], on the device, so that compiled graphs can share the
            kernel. A layer is a section; of a layer of experts it is the section of the first one.
        activation: The activation function.
        gated: Whether the MLP has a gate.
        strengths: Each token's strength, float32 [at least T].
        constants: Constants of the activation function, float32 on the device, see `MlpForm`; None if it has none.
        statistic: Each token's statistic, float32 [at least T], from `statistic_triton.take` with the same arguments;
            without it no coef is read.
        pairs: The pairs of a layer of experts; None for any other.
    """
    tokens, width = out.shape
    assert width <= table.width
    assert x.shape == (tokens, 2 * width if gated else width)
    assert x.dtype == out.dtype
    assert x.is_contiguous()
    assert out.is_contiguous()
    each, chosen = (1, slots) if pairs is None else (pairs.each, pairs.chosen)
    assert min(len(slots), len(strengths)) * each >= tokens
    assert pairs is None or len(chosen) == tokens
    if not tokens:
        return
    coef, with_statistic = table.mult, False
    if statistic is not None:
        assert table.statistics is not None
        coef, with_statistic = table.statistics.coef, True
    rows = 1 if tokens < LONG_BATCH else 2
    parts = triton.cdiv(width, table.block)
    _steer[(triton.cdiv(tokens, rows) * parts,)](
        out,
        x,
        slots,
        table.offsets,
        table.neurons,
        table.mult,
        table.add,
        coef,
        statistic if with_statistic else table.mult,
        strengths,
        tokens,
        layer,
        layer if constants is None else constants,
        chosen,
        each=each,
        with_experts=pairs is not None,
        width=width,
        parts=parts,
        blocks=table.blocks,
        line=table.offsets.shape[1],
        activation=activation,
        gated=gated,
        with_statistic=with_statistic,
        rows=rows,
        block=table.block,
        chunk=_THREADS,
        num_warps=_WARPS,
        maxnreg=REGISTERS[rows],
    )


@triton.jit(do_not_specialize=["tokens"])  # type: ignore[untyped-decorator]
def _steer(
    out: tl.tensor,
    x: tl.tensor,
    slots: tl.tensor,
    offsets: tl.tensor,
    neurons: tl.tensor,
    mult: tl.tensor,
    add: tl.tensor,
    coef: tl.tensor,
    statistic: tl.tensor,
    strengths: tl.tensor,
    tokens: tl.tensor,
    layer: tl.tensor,
    constants: tl.tensor,
    chosen: tl.tensor,
    each: tl.constexpr,
    with_experts: tl.constexpr,
    width: tl.constexpr,
    parts: tl.constexpr,
    blocks: tl.constexpr,
    line: tl.constexpr,
    activation: tl.constexpr,
    gated: tl.constexpr,
    with_statistic: tl.constexpr,
    rows: tl.constexpr,
    block: tl.constexpr,
    chunk: tl.constexpr,
) -> None:
    """Handle `block` neurons of `rows` tokens; neighbouring programs take neighbouring blocks of the same tokens.

    `parts` are the blocks of this layer, `blocks` those that the table has for each section, and `line` is the length
    of a slot's line of offsets. An entry is loaded by one thread, `chunk` of them at once. With experts, `token` counts
    pairs, `each` of which are of one token.

    An entry is found by three loads, each of which waits for the one before: slot, offset, neuron. The first is issued
    before the loads of the dense part and the second right after them, so their latencies overlap. With two tokens,
    half of the threads overwrite each, so that the second does not wait for the first.
    """
    stride: tl.constexpr = 2 * width if gated else width
    part = tl.program_id(0) % parts
    token = tl.program_id(0) // parts * rows
    slot = tl.load(slots + token // each)
    begins = offsets + tl.load(layer) * blocks + part
    if rows == 2:
        second_slot = tl.load(slots + (token + 1) // each, mask=token + 1 < tokens, other=0)
        second_begins = begins
        if with_experts:
            second_begins += tl.load(chosen + token + 1, mask=token + 1 < tokens, other=0) * blocks
    if with_experts:
        begins += tl.load(chosen + token) * blocks
    dense_token = token + tl.arange(0, rows)
    column = part * block + tl.arange(0, block)
    inside = (dense_token < tokens)[:, None] & (column < width)[None, :]
    x_rows = x + dense_token.to(tl.int64)[:, None] * stride + column[None, :]

    gate = tl.load(x_rows, mask=inside, other=0.0).to(tl.float32)
    if gated:
        up = tl.load(x_rows + width, mask=inside, other=0.0).to(tl.float32)
    first, last = _extent(begins, slot, line)
    longest = last - first
    if rows == 2:
        second_first, second_last = _extent(second_begins, second_slot, line)
        longest = tl.maximum(longest, second_last - second_first)
    value = activate(gate, activation, constants)
    if gated:
        value = value * up
    dense = out + dense_token.to(tl.int64)[:, None] * width + column[None, :]
    tl.store(dense, value.to(out.dtype.element_ty), mask=inside)

    if longest > 0:
        # Other threads stored the dense result than those that overwrite it, so all of its stores must finish first.
        tl.debug_barrier()
        share: tl.constexpr = chunk // rows
        thread = tl.arange(0, chunk)
        row = thread // share
        entry, end = first + thread, last
        if rows == 2:
            entry, end = tl.where(row == 0, first, second_first - share) + thread, tl.where(row == 0, last, second_last)
        own_token = token + row
        x_row = x + own_token.to(tl.int64) * stride
        out_row = out + own_token.to(tl.int64) * width
        owner = own_token // each
        strength = tl.load(strengths + owner, mask=own_token < tokens, other=1.0)
        for _ in range(0, longest, share):
            mine = entry < end
            neuron = tl.load(neurons + entry, mask=mine, other=0)
            shift = tl.load(add + entry, mask=mine, other=0.0)
            factor = tl.load(mult + entry, mask=mine, other=0.0)
            if with_statistic:
                coefficient = tl.load(coef + entry, mask=mine, other=0.0)
                # For a token whose slot uses no statistic, `statistic` holds a stale value of an earlier step.
                taken = tl.load(statistic + owner, mask=coefficient != 0.0, other=0.0)
                shift = tl.where(coefficient != 0.0, shift + coefficient * taken, shift)
            # At strength 1 both are unchanged, to the bit.
            factor, shift = (1.0 - strength) + strength * factor, strength * shift
            # What is multiplied by 0 is not read, as it may be infinite; every activation function maps 0 to 0.
            touched = tl.load(x_row + neuron, mask=mine & (factor != 0.0), other=0.0).to(tl.float32)
            changed = factor * activate(touched, activation, constants) + shift
            if gated:
                multiplied = mine & ((factor != 0.0) | (shift != 0.0))
                changed = changed * tl.load(x_row + width + neuron, mask=multiplied, other=0.0).to(tl.float32)
            tl.store(out_row + neuron, changed.to(out.dtype.element_ty), mask=mine)
            entry += share


@triton.jit  # type: ignore[untyped-decorator]
def _extent(begins: tl.tensor, slot: tl.tensor, line: tl.constexpr) -> tuple[tl.tensor, tl.tensor]:
    """Return the first entry of a slot, and the one after its last, in the block that `begins` points at for slot 0."""
    begin = begins + slot.to(tl.int64) * line
    return tl.load(begin, mask=slot > 0, other=0), tl.load(begin + 1, mask=slot > 0, other=0)
