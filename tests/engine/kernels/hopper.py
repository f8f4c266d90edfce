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

from engine.kernels.cuda import grouped_product_triton, record_triton, residual_triton, statistic_triton, steer_triton

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


def compiled(
    kernel: Any,
    pointers: dict[str, str],
    constants: dict[str, Any],
    warps: int,
    *,
    stages: int | None = None,
    registers: int | None = None,
) -> dict[str, int]:
    """Count memory accesses and barriers in the kernel's PTX by kind, and its registers and bytes of stack per thread.

    "before a store" are the loads before the first store, "shared" the bytes of shared memory of a program, and "mma"
    the instructions of tensor cores. "in flight" are the loads of 16 bytes that the machine code issues before it adds
    anything or computes an exponential, which waits for the first of them. Pointers are aligned to 16 bytes.
    """
    names = kernel.arg_names
    source = ASTSource(
        fn=kernel,
        signature={name: "constexpr" if name in constants else pointers.get(name, "i32") for name in names},
        constexprs={(names.index(name),): value for name, value in constants.items()},
        attrs={(names.index(name),): [["tt.divisibility", 16]] for name in pointers},
    )
    options = {"num_warps": warps, "maxnreg": registers} | ({} if stages is None else {"num_stages": stages})
    binary = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
    kinds = r"(?:ld|st)\.(?:global|shared)(?:\.v\d)?|bar\.sync"
    accesses = re.findall(kinds, binary.asm["ptx"])
    early = next(index for index, kind in enumerate(accesses) if kind.startswith("st."))
    tensor_cores = len(re.findall(r"\b(?:mma\.sync|wgmma\.mma_async)", binary.asm["ptx"]))
    counted = {"before a store": early, "shared": binary.metadata.shared, "mma": tensor_cores}
    return {**Counter(accesses), **counted, **_resources(binary.asm["cubin"])}


def _resources(cubin: bytes) -> dict[str, int]:
    """Return the registers ("REG") and the bytes of stack ("STACK") that a thread has, and the loads "in flight".

    Spilled registers need stack.
    """
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        usage, code = (
            subprocess.run([knobs.nvidia.cuobjdump.path, option, file.name], capture_output=True, text=True, check=True)
            for option in ("-res-usage", "-sass")
        )
    before = re.split(r"\b(?:FADD|MUFU)", code.stdout)[0]
    resources = {name: int(number) for name, number in re.findall(r"\b(REG|STACK):(\d+)", usage.stdout)}
    return {**resources, "in flight": before.count("LDG.E.128")}


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
            "each": 1,
            "with_experts": False,
        }
        pointers = {"out": "*bf16", "x": "*bf16", "chosen": "*i32", **TABLE, **ENTRIES}
        name = f"steer {rows}" + (" with a statistic" if with_statistic else "")
        registers = steer_triton.REGISTERS[rows]
        report[name] = compiled(steer_triton._steer, pointers, {**SHAPE, **constants}, 4, registers=registers)
    experts = {"width": 768, "blocks": 1, "line": 48 * 128 + 1, "activation": "silu", "gated": True, "parts": 1}
    constants = {"with_statistic": False, "rows": 1, "block": 1024, "chunk": 128, "each": 8, "with_experts": True}
    pointers = {"out": "*bf16", "x": "*bf16", "chosen": "*i32", **TABLE, **ENTRIES}
    report["steer experts"] = compiled(steer_triton._steer, pointers, {**experts, **constants}, 4)
    pointers = {"out": "*fp32", "x": "*bf16", **TABLE, "plan": "*i32", "weights": "*fp32", "section": "*i32"}
    constants = {"stride": 2 * 18944, "layers": 28, "padded": 32768, "group": 32, "section_blocks": 19}
    report["statistic"] = compiled(statistic_triton._take, pointers, {**SHAPE, **constants}, 16)
    recorded = {"counts": "*i32", "sums": "*fp32", "x": "*bf16", "spans": "*i32", "layer": "*i32"}
    pointers = {**recorded, "constants": "*fp32", "order": "*i32"}
    constants = {"rows": 63, "padded_rows": 64, "stride": 2 * 18944, "block": 256, "unrolled": 8}
    shape = {"width": 18944, "line": 18944, "blocks": 74, "activation": "silu", "experts": 1, "with_pairs": False}
    report["record"] = compiled(record_triton._record, pointers, {**shape, **constants}, 4)
    constants = {"rows": 7 * 128, "padded_rows": 1024, "stride": 2 * 768, "block": 256, "unrolled": 8}
    shape = {"width": 768, "line": 98304, "blocks": 3, "activation": "silu", "experts": 128, "with_pairs": True}
    report["record experts"] = compiled(record_triton._record, pointers, {**shape, **constants}, 4)
    pointers = {"out": "*bf16", "x": "*bf16", "weights": "*bf16", "biases": "*bf16", "shares": "*fp32"}
    pointers |= {"order": "*i32", "ends": "*i32", "tile_ends": "*i32"}
    shape = {"each": 8, "experts": 128, "padded_experts": 128, "inputs": 2048, "outputs": 1536}
    for tile in (16, 64):
        block = grouped_product_triton.OUTPUTS[tile]
        constants = {"tile": tile, "block": block, "blocks": 1536 // block, "with_biases": False, "with_shares": False}
        constants |= {"depth": grouped_product_triton.INPUT_BYTES[tile] // 2}
        kernel = grouped_product_triton._multiply
        report[f"product {tile}"] = compiled(
            kernel, pointers, {**shape, **constants}, 4, stages=grouped_product_triton.STAGES
        )
    stream = {"hidden": "*bf16", "layer": "*i32"}
    shape = {"width": 3584, "blocks": 4, "block": 1024}
    pointers = {**stream, "slots": "*i32", "strengths": "*fp32", "adds": "*i32", "values": "*fp32"}
    report["add vector"] = compiled(residual_triton._add, pointers, {**shape, "layers": 28}, 4)
    pointers = {**stream, "sums": "*fp32", "residual": "*bf16", "spans": "*i32"}
    constants = {"rows": 63, "unrolled": 4, "with_residual": True}
    registers = residual_triton.RECORD_REGISTERS
    kernel = residual_triton._record
    report["record residual"] = compiled(kernel, pointers, {**shape, **constants}, 4, registers=registers)
    json.dump(report, sys.stdout)


if __name__ == "__main__":
    main()
