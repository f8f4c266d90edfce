"""The machine: its processor, GPUs, memory, shared memory."""

from __future__ import annotations

import csv
import os
import resource
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path

from ampsweep.cli.checks.finding import Finding, bad, note, ok
from worker.engines import EngineSpec
from worker.memory import HALF, EngineMemory, available_memory, remedy

GIB = 1024**3
SHARED = Path("/dev/shm")  # noqa: S108
FILES = 4096
"""Fewer open files than this are too few for a busy server."""
DRIVERS = {12: 525, 13: 580}
"""The oldest driver for each major release of CUDA, by NVIDIA's table of minor version compatibility."""
_QUERY = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total,memory.free", "--format=csv,noheader,nounits"]


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """A GPU as its driver tells of it; memory in MiB."""

    name: str
    driver: str
    total: int
    free: int


def gpus() -> list[Gpu]:
    """Return the GPUs of this machine; none where there is no driver."""
    if shutil.which(_QUERY[0]) is None:
        return []
    try:
        said = subprocess.run(_QUERY, capture_output=True, text=True, timeout=30, check=False)  # noqa: S603
    except subprocess.TimeoutExpired:
        return []
    return read_gpus(said.stdout) if said.returncode == 0 else []


def read_gpus(text: str) -> list[Gpu]:
    """Read what nvidia-smi answers: a line a GPU of name, driver, memory and free memory; others are left out."""
    rows = [row for row in csv.reader(text.splitlines(), skipinitialspace=True) if len(row) == 4 and row[2].isdigit()]
    return [Gpu(name=name, driver=driver, total=int(total), free=int(free or 0)) for name, driver, total, free in rows]


def gpu(found: list[Gpu], cuda: int | None) -> list[Finding]:
    """Look at the GPUs, and whether their driver is new enough for the CUDA release of the installed packages."""
    if not found:
        return [note("GPU", "none; engines run on the CPU")]
    findings = [
        ok("GPU", f"{one.name}, {one.total / 1024:.0f} GiB ({one.free / 1024:.0f} free), driver {one.driver}")
        for one in found
    ]
    oldest = DRIVERS.get(cuda or 0, 0)
    if int(found[0].driver.split(".")[0]) < oldest:
        findings.append(bad("driver", f"{found[0].driver} is too old for CUDA {cuda}", f"install {oldest} or newer"))
    return findings


def cuda_release() -> int | None:
    """Return the major release of CUDA that the installed packages bring; None where they bring none."""
    try:
        return int(metadata.version("nvidia-cuda-runtime").split(".")[0])
    except metadata.PackageNotFoundError:
        return None


def processor(flags: set[str], cores: int) -> Finding:
    """Look at what vLLM's CPU build needs of the processor."""
    if "avx2" not in flags:
        return bad("processor", "it has no AVX2", "run engines on another machine, or on a GPU")
    fast = [name for name in ("avx512f", "avx512_bf16", "amx_bf16") if name in flags]
    detail = f"{cores} cores, {', '.join(['avx2', *fast])}"
    return ok("processor", detail) if fast else note("processor", f"{detail}: without AVX-512 the CPU engine is slower")


def processor_flags() -> set[str]:
    """Return what the kernel says the processor can do."""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("flags"):
            return set(line.partition(":")[2].split())
    return set()


def memory(available: int, needed: Sequence[EngineMemory]) -> Finding:
    """Compare the bytes of memory that are free with what the engines will allocate."""
    total = sum(each.total for each in needed)
    detail = f"{available / GIB:.1f} GiB free, the engines will allocate {total / GIB:.1f} GiB"
    if available < total:
        parts = "; ".join(str(each) for each in needed if each.total)
        return bad("memory", f"{detail} ({parts})", remedy({each.spec.dtype for each in needed}))
    return ok("memory", detail)


def gpu_memory(found: Sequence[Gpu], specs: Sequence[EngineSpec]) -> list[Finding]:
    """Compare each vllm model's weights on one device with the memory of the smallest GPU, of which vLLM takes 90 %."""
    findings = []
    room = int(min((one.total for one in found), default=0) * 1024**2 * 0.9)
    for spec in specs if found else ():
        weights = EngineMemory.of(replace(spec, kind="transformers", count=1)).weights if spec.kind == "vllm" else 0
        share = weights // (spec.tensor_parallel_size * spec.pipeline_parallel_size)
        if share > room:
            detail = (
                f"model {spec.model}: {share / GIB:.1f} GiB of weights in {spec.dtype} for a GPU's {room / GIB:.1f}"
            )
            other = "raise --tensor-parallel-size, or load a smaller model"
            half = "" if spec.dtype in HALF else "choose --dtype bfloat16, "
            findings.append(bad("GPU memory", detail, f"{half}{other}"))
    return findings


def shared_memory(size: int) -> Finding:
    """Look at /dev/shm, where Ray's object store lies."""
    if size < GIB // 4:
        return bad("shared memory", f"{SHARED} has {size / GIB:.2f} GiB", "give the container --shm-size=2g")
    return ok("shared memory", f"{SHARED} has {size / GIB:.1f} GiB")


def open_files(limit: int) -> Finding:
    """Look how many files a process may have open: Ray's and a server's connections are files, too."""
    if limit < FILES:
        return note("open files", f"at most {limit} a process", f"raise it: ulimit -n {FILES}")
    return ok("open files", f"at most {limit} a process")


def machine(specs: Sequence[EngineSpec]) -> list[Finding]:
    """Look at all of it; `specs` are the engines of a server here."""
    found = gpus()
    return [
        processor(processor_flags(), os.cpu_count() or 1),
        *gpu(found, cuda_release()),
        *gpu_memory(found, specs),
        memory(available_memory(), [EngineMemory.of(spec, gpu=bool(found)) for spec in specs]),
        shared_memory(shutil.disk_usage(SHARED).total if SHARED.is_dir() else 0),
        open_files(resource.getrlimit(resource.RLIMIT_NOFILE)[0]),
    ]
