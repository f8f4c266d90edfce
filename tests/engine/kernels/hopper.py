"""Compiles the kernels for an H100, which need not be present, and prints instructions and registers as JSON.

It needs its own process, because the tests interpret the kernels: python -m tests.engine.kernels.hopper. `triton` is
the file of the release that compiled them.
"""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from typing import Any

import triton
from triton import knobs
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from engine.kernels import record_triton, residual_triton, statistic_triton, steer_triton

SHAPE = {"width": 18944, "blocks": 19, "line": 28 * 19 + 1, "activation": "silu"}
TABLE = {"slots": "*i32", "offsets": "*i32", "layer": "*i32", "constants": "*fp32"}
ENTRIES = {
    "neurons": "*i32",
    "mult": "*fp32",
    "add": "*fp32",
    "coef": "*fp32",
    "statistic": "*fp32",
    "strengths": "*fp32",
}


def compiled(kernel: Any, pointers: dict[str, str], constants: dict[str, Any], warps: int) -> dict[str, int]:
    """Count memory accesses and barriers in the kernel's PTX by kind, and its registers and bytes of stack per thread.

    "before a store" are the loads before the first store. Pointers are aligned to 16 bytes.
    """
    names = kernel.arg_names
    source = ASTSource(
        fn=kernel,
        signature={name: "constexpr" if name in constants else pointers.get(name, "i32") for name in names},
        constexprs={(names.index(name),): value for name, value in constants.items()},
        attrs={(names.index(name),): [["tt.divisibility", 16]] for name in pointers},
    )
    binary = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": warps})
    kinds = r"(?:ld|st)\.(?:global|shared)(?:\.v\d)?|bar\.sync"
    accesses = re.findall(kinds, binary.asm["ptx"])
    early = next(index for index, kind in enumerate(accesses) if kind.startswith("st."))
    return {**Counter(accesses), "before a store": early, **_resources(binary.asm["cubin"])}


def _resources(cubin: bytes) -> dict[str, int]:
    """Return the registers ("REG") and the bytes of stack ("STACK") that a thread has; spilled registers need stack."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [knobs.nvidia.cuobjdump.path, "-res-usage", file.name]
        usage = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {name: int(number) for name, number in re.findall(r"\b(REG|STACK):(\d+)", usage)}


def main() -> None:
    """Compile the kernels of a layer; the steering kernel with one and with two tokens per program."""
    report: dict[str, Any] = {"triton": triton.__file__}
    for rows, with_statistic in itertools.product((1, 2), (False, True)):
        constants = {
            "gated": True,
            "with_statistic": with_statistic,
            "rows": rows,
            "parts": 19,
            "block": 1024,
            "chunk": 128,
        }
        pointers = {"out": "*bf16", "x": "*bf16", **TABLE, **ENTRIES}
        name = f"steer {rows}" + (" with a statistic" if with_statistic else "")
        report[name] = compiled(steer_triton._steer, pointers, {**SHAPE, **constants}, 4)
    pointers = {"out": "*fp32", "x": "*bf16", **TABLE, "plan": "*i32", "weights": "*fp32"}
    constants = {"stride": 2 * 18944, "layers": 28, "padded": 32768, "group": 32}
    report["statistic"] = compiled(statistic_triton._take, pointers, {**SHAPE, **constants}, 16)
    pointers = {"counts": "*i32", "sums": "*fp32", "x": "*bf16", "spans": "*i32", "layer": "*i32", "constants": "*fp32"}
    constants = {"rows": 63, "padded_rows": 64, "stride": 2 * 18944, "block": 256, "unrolled": 8}
    shape = {"width": 18944, "line": 18944, "blocks": 74, "activation": "silu"}
    report["record"] = compiled(record_triton._record, pointers, {**shape, **constants}, 4)
    stream = {"hidden": "*bf16", "layer": "*i32"}
    shape = {"width": 3584, "blocks": 4, "block": 1024}
    pointers = {**stream, "slots": "*i32", "strengths": "*fp32", "adds": "*i32", "values": "*fp32"}
    report["add vector"] = compiled(residual_triton._add, pointers, {**shape, "layers": 28}, 4)
    pointers = {**stream, "sums": "*fp32", "residual": "*bf16", "spans": "*i32"}
    constants = {"rows": 63, "unrolled": 4, "with_residual": True}
    report["record residual"] = compiled(residual_triton._record, pointers, {**shape, **constants}, 4)
    json.dump(report, sys.stdout)


if __name__ == "__main__":
    main()
