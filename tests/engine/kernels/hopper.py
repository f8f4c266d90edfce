"""Compiles the kernels for an H100, which need not be present, and prints the kinds of instructions as JSON.

It needs its own process, because the tests interpret the kernels: python -m tests.engine.kernels.hopper
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from engine.kernels import statistic_triton, steer_triton

SHAPE = {"width": 18944, "blocks": 19, "line": 28 * 19 + 1, "activation": "silu"}
TABLE = {"slots": "*i32", "offsets": "*i32"}
ENTRIES = {"neurons": "*i32", "mult": "*fp32", "add": "*fp32", "coef": "*fp32", "statistic": "*fp32"}


def instructions(kernel: Any, pointers: dict[str, str], constants: dict[str, Any], warps: int) -> dict[str, int]:
    """Count the memory accesses and barriers in the kernel's PTX by kind; pointers are aligned to 16 bytes."""
    names = kernel.arg_names
    source = ASTSource(
        fn=kernel,
        signature={name: "constexpr" if name in constants else pointers.get(name, "i32") for name in names},
        constexprs={(names.index(name),): value for name, value in constants.items()},
        attrs={(names.index(name),): [["tt.divisibility", 16]] for name in pointers},
    )
    compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": warps})
    kinds = r"(?:ld|st)\.(?:global|shared)(?:\.v\d)?|bar\.sync"
    return Counter(re.findall(kinds, compiled.asm["ptx"]))


def main() -> None:
    """Compile the steering kernel with one and with two tokens per program, and the statistics kernel."""
    report: dict[str, dict[str, int]] = {}
    for rows in (1, 2):
        constants = {
            "gated": True,
            "with_statistic": False,
            "rows": rows,
            "parts": 19,
            "block": 1024,
            "chunk": 128 // rows,
        }
        pointers = {"out": "*bf16", "x": "*bf16", **TABLE, **ENTRIES}
        report[f"steer {rows}"] = instructions(steer_triton._steer, pointers, {**SHAPE, **constants}, 4)
    pointers = {"out": "*fp32", "x": "*bf16", **TABLE, "plan": "*i32", "weights": "*fp32"}
    constants = {"stride": 2 * 18944, "layers": 28, "padded": 32768}
    report["statistic"] = instructions(statistic_triton._take, pointers, {**SHAPE, **constants}, 16)
    json.dump(report, sys.stdout)


if __name__ == "__main__":
    main()
