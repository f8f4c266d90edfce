"""Time and bandwidth of the CUDA kernel, compared with an unsteered SiLU-and-multiply and a device copy.

In decode shapes the slots alternate token by token; in prefill shapes each slot has a run of adjacent tokens. Each slot
edits other neurons, drawn at random. Bytes are those of gate, up and out, without the entries of the table. Needs only
torch and Triton. The exit status is 2 if there is no CUDA device. `--check` compares this and the
other kernels with float64 instead, on any machine with Triton (`benchmarks.kernel_check`).

Usage: python -m benchmarks.kernel --out FILE.json [--dtype bfloat16] [--block 1024]
       python -m benchmarks.kernel --check [--only CHECK ...] [--small] [--seed 0]
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import kernel_timing
from benchmarks.kernel_check import CHECKS, KernelCheck
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
    from benchmarks import kernel_references
    from engine.kernels.cuda import steer_triton

    device = tables[SHARES[0]].buffers.offsets.device
    layers = torch.arange(LAYERS, dtype=torch.int32, device=device)
    strengths = torch.ones(tokens, device=device)
    moved = 3 * tokens * width * dtype.itemsize
    count = kernel_timing.launches(moved)
    x = [torch.randn(tokens, 2 * width, device=device, dtype=dtype) for _ in range(count)]
    out = [torch.empty(tokens, width, device=device, dtype=dtype) for _ in range(count)]
    unsteered = {
        name: kernel_timing.microseconds(lambda index, run=run: run(out[index], x[index]), count)  # type: ignore[misc]
        for name, run in kernel_references.references().items()
    }
    copy_time = kernel_timing.microseconds(lambda index: kernel_references.copy(x, index), count)
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

        time = kernel_timing.microseconds(run, count)
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


def report(dtype: str, block: int) -> dict[str, Any]:
    """Run the whole benchmark."""
    import triton

    device = torch.device("cuda")
    return {
        "device": torch.cuda.get_device_name(),
        "versions": {"torch": torch.__version__, "triton": triton.__version__, "cuda": torch.version.cuda},
        "dtype": dtype,
        "block": block,
        "layers": LAYERS,
        "seed": SEED,
        "shapes": [shape for width in WIDTHS for shape in times(width, dtype=dtype, block=block, device=device)],
    }


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


def main() -> int:
    """Run the benchmark or the check, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--out", type=Path)
    action.add_argument("--check", action="store_true")
    parser.add_argument("--dtype", choices=list(DTYPES), default="bfloat16")
    parser.add_argument("--block", type=int, default=1024)
    parser.add_argument("--seed", type=int, default=SEED, help="of the inputs of the check")
    parser.add_argument("--only", nargs="+", choices=CHECKS, default=list(CHECKS), help="what is checked")
    parser.add_argument("--small", action="store_true", help="check no shapes of real models")
    options = parser.parse_args()
    if importlib.util.find_spec("triton") is None:
        print("the kernel benchmark needs Triton, which is not installed", file=sys.stderr)
        return 2
    if options.check:
        if not torch.cuda.is_available():
            os.environ["TRITON_INTERPRET"] = "1"
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        checks = KernelCheck(device, seed=options.seed, small=options.small).checks()
        for name in options.only:
            print(f"{name}: {checks[name]()} cases as expected", flush=True)
        return 0
    if not torch.cuda.is_available():
        print("the kernel benchmark needs a CUDA device; --check runs without one", file=sys.stderr)
        return 2
    measured = report(options.dtype, options.block)
    options.out.write_text(json.dumps(measured, indent=2) + "\n", encoding="utf-8")
    print(table(measured["shapes"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
