"""Times the steering kernel beside an unsteered SiLU-and-multiply and a device copy, by shape, slots and neurons.

In decode shapes the slots alternate token by token; in prefill shapes each slot has a run of adjacent tokens. Each slot
edits other neurons, drawn at random.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from benchmarks.kernels import timing
from engine.kernels.device_table import DeviceTable, SlotEntries

WIDTHS = (4864, 11008, 18944)
TOKENS = (64, 512, 8192)
PREFILL = 8192
SLOTS = (1, 16, 256)
SHARES = (0.001, 0.01, 0.05)
LAYERS = 8
SEED = 0
DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


def fill(width: int, share: float, block: int, *, slots: int, layers: int, device: torch.device) -> DeviceTable:
    """Return a table in which each slot edits a random `share` of each layer's neurons."""
    rng = np.random.default_rng(SEED)
    count = max(1, round(width * share))
    capacity = (slots + 1) * layers * count
    table = DeviceTable(slots=slots, layers=layers, width=width, capacity=capacity, block=block, device=device)
    for slot in range(1, slots + 1):
        table.write(slot, random_entries(rng, width, count, layers))
    return table


def random_entries(rng: np.random.Generator, width: int, count: int, layers: int) -> SlotEntries:
    """Return entries for `count` random neurons of each layer."""
    neurons = [np.sort(rng.choice(width, count, replace=False)) for _ in range(layers)]
    return SlotEntries(
        offsets=np.arange(layers + 1, dtype=np.int64) * count,
        indices=np.concatenate(neurons).astype(np.int32),
        mult=rng.uniform(0.5, 5.0, layers * count).astype(np.float32),
        add=rng.normal(size=layers * count).astype(np.float32),
    )


def token_slots(tokens: int, slots: int, device: torch.device) -> torch.Tensor:
    """Return the slot of each token, int32 [tokens].

    From PREFILL tokens on, slots 1 to `slots` each have a run of tokens; below, they alternate. All 0 without slots.
    """
    index = torch.arange(tokens, device=device)
    if slots == 0:
        return torch.zeros_like(index, dtype=torch.int32)
    return ((index * slots // tokens if tokens >= PREFILL else index % slots) + 1).to(torch.int32)


def measure(tokens: int, width: int, tables: dict[float, DeviceTable], dtype: torch.dtype) -> dict[str, Any]:
    """Time the kernel and its references at one shape, with the same buffers, on the device of the tables."""
    from benchmarks.kernels import references
    from engine.kernels.cuda import steer_triton

    device = tables[SHARES[0]].buffers.offsets.device
    layers = torch.arange(LAYERS, dtype=torch.int32, device=device)
    strengths = torch.ones(tokens, device=device)
    moved = 3 * tokens * width * dtype.itemsize
    count = timing.launches(moved)
    x = [torch.randn(tokens, 2 * width, device=device, dtype=dtype) for _ in range(count)]
    out = [torch.empty(tokens, width, device=device, dtype=dtype) for _ in range(count)]
    unsteered = {
        name: timing.microseconds(lambda index, run=run: run(out[index], x[index]), count)  # type: ignore[misc]
        for name, run in references.references().items()
    }
    copy_time = timing.microseconds(lambda index: references.copy(x, index), count)
    shape: dict[str, Any] = {
        "tokens": tokens,
        "width": width,
        "copy": _figures(copy_time, moved),
        "unsteered": {name: _figures(time, moved) for name, time in unsteered.items()},
        "steered": [],
    }
    for slots, share in [(0, SHARES[0]), *itertools.product(SLOTS, SHARES)]:
        slot_of_token, buffers = token_slots(tokens, slots, device), tables[share].buffers

        def run(index: int, slot_of_token: torch.Tensor = slot_of_token, buffers: Any = buffers) -> None:
            layer = layers[index % LAYERS]
            steer_triton.steer(
                out[index], x[index], slot_of_token, buffers, layer, activation="silu", gated=True, strengths=strengths
            )

        time = timing.microseconds(run, count)
        shape["steered"].append(
            {
                "slots": slots,
                "share": share if slots else 0.0,
                **_figures(time, moved),
                "of copy": round(copy_time / time, 3),
                "over": {name: round(time / other, 3) for name, other in unsteered.items()},
            }
        )
    return shape


def _figures(microseconds: float, moved: int) -> dict[str, float]:
    return {"us": round(microseconds, 2), "GB/s": round(moved / microseconds / 1000.0, 1)}


def times(
    width: int, *, dtype: str, block: int, device: torch.device, tokens: Sequence[int] = TOKENS
) -> list[dict[str, Any]]:
    """Return the times at one width, by number of tokens."""
    tables = {share: fill(width, share, block, slots=max(SLOTS), layers=LAYERS, device=device) for share in SHARES}
    return [measure(count, width, tables, DTYPES[dtype]) for count in tokens]


def table(shapes: list[dict[str, Any]]) -> str:
    """Return the measurements as a table of plain text."""
    names = list(shapes[0]["unsteered"])
    lines = ["tokens  width  slots  share       us     GB/s  of copy" + "".join(f"  over {name}" for name in names)]
    for shape in shapes:
        lines += [
            f"{shape['tokens']:6}  {shape['width']:5}  {case['slots']:5}  {case['share']:5.1%}  {case['us']:7.2f}"
            f"  {case['GB/s']:7.1f}  {case['of copy']:7.3f}"
            + "".join(f"  {case['over'][name]:{len(name) + 5}.3f}" for name in names)
            for case in shape["steered"]
        ]
    return "\n".join(lines)
