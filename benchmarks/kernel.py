"""Time and bandwidth of the CUDA kernel, compared with an unsteered SiLU-and-multiply and a device copy.

In decode shapes the slots alternate token by token; in prefill shapes each slot has a run of adjacent tokens. Each slot
edits other neurons, drawn at random. Bytes are those of gate, up and out, without the entries of the table. Needs only
torch and Triton. The exit status is 2 if there is no CUDA device. `--check` compares this and the
other kernels with float64 instead, on any machine with Triton (`benchmarks.kernels.checks`).

Usage: python -m benchmarks.kernel --out FILE.json [--dtype bfloat16] [--block 1024]
       python -m benchmarks.kernel --check [--only CHECK ...] [--small] [--seed 0]
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import Any

import torch

from benchmarks.kernels.checks import CHECKS, KernelCheck
from benchmarks.kernels.steering_cost import DTYPES, LAYERS, SEED, WIDTHS, table, times


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
