"""Checks of the machine: processor, GPUs, memory, shared memory, limits of open files and of processes."""

from __future__ import annotations

import os
import resource
import shutil
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from ampsweep.cli.checks.finding import Finding, bad, note, ok
from ampsweep.errors import InvalidRequest
from worker.engines import EngineSpec
from worker.resources.gpus import Gpu, gpus
from worker.resources.memory import GIB, EngineMemory, available_memory, gpu_shortage, remedy, require_gpus
from worker.resources.process_limits import MIN_PROCESSES, ProcessLimit, process_limit

SHARED = Path("/dev/shm")  # noqa: S108
MIN_OPEN_FILES = 4096
"""The lowest limit of open files that suffices for a busy server."""
DRIVERS = {12: 525, 13: 580}
"""The oldest driver for each major version of CUDA, from NVIDIA's table of minor version compatibility."""


def gpu(gpu_list: Sequence[Gpu], cuda: int | None) -> list[Finding]:
    """Check that the driver of the GPUs is new enough for the CUDA version of the installed packages."""
    if not gpu_list:
        return [note("GPU", "none; engines run on the CPU")]
    findings = [
        ok("GPU", f"{gpu.name}, {gpu.total / 1024:.0f} GiB ({gpu.free / 1024:.0f} free), driver {gpu.driver}")
        for gpu in gpu_list
    ]
    oldest = DRIVERS.get(cuda or 0, 0)
    driver = gpu_list[0].driver
    if int(driver.split(".")[0]) < oldest:
        findings.append(bad("driver", f"{driver} is too old for CUDA {cuda}", f"install driver {oldest} or newer"))
    return findings


def cuda_release() -> int | None:
    """Return the major version of CUDA in the installed packages, None without CUDA packages."""
    try:
        return int(metadata.version("nvidia-cuda-runtime").split(".")[0])
    except metadata.PackageNotFoundError:
        return None


def processor(flags: set[str], cores: int) -> Finding:
    """Check for the instruction sets that the CPU build of vLLM needs."""
    if "avx2" not in flags:
        return bad("processor", "it does not support AVX2", "run engines on another machine, or on a GPU")
    fast = [name for name in ("avx512f", "avx512_bf16", "amx_bf16") if name in flags]
    detail = f"{cores} cores, {', '.join(['avx2', *fast])}"
    return ok("processor", detail) if fast else note("processor", f"{detail}: without AVX-512 the CPU engine is slower")


def processor_flags() -> set[str]:
    """Return the feature flags of the processor from /proc/cpuinfo."""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("flags"):
            return set(line.partition(":")[2].split())
    return set()


def memory(available: int, needed: Sequence[EngineMemory]) -> Finding:
    """Compare the available memory, in bytes, with what the engines will allocate."""
    total = sum(engine.total for engine in needed)
    detail = f"{available / GIB:.1f} GiB free, the engines will allocate {total / GIB:.1f} GiB"
    if available < total:
        parts = "; ".join(str(engine) for engine in needed if engine.total)
        return bad("memory", f"{detail} ({parts})", remedy({engine.spec.dtype for engine in needed}))
    return ok("memory", detail)


def gpu_memory(gpu_list: Sequence[Gpu], specs: Sequence[EngineSpec]) -> list[Finding]:
    """Compare the weights per GPU of each vllm model with the memory of the smallest GPU that vLLM uses."""
    usable = min((gpu.usable for gpu in gpu_list), default=None)
    shortages = [gpu_shortage(spec, usable) for spec in specs] if usable is not None else []
    return [bad("GPU memory", shortage.detail, shortage.remedy) for shortage in shortages if shortage is not None]


def gpu_reservations(specs: Sequence[EngineSpec], *, on_gpu: bool) -> list[Finding]:
    """Check that each engine gets the GPUs that it reserves, and that no engines share one."""
    try:
        require_gpus(specs, on_gpu=on_gpu)
    except InvalidRequest as error:
        problem, _, advice = error.message.rpartition("; ")
        return [bad("GPUs of the engines", problem, advice)]
    return []


def shared_memory(size: int) -> Finding:
    """Check the size in bytes of /dev/shm, which holds Ray's object store."""
    if size < GIB // 4:
        return bad("shared memory", f"{SHARED} has {size / GIB:.2f} GiB", "start the container with --shm-size=2g")
    return ok("shared memory", f"{SHARED} has {size / GIB:.1f} GiB")


def open_files(limit: int) -> Finding:
    """Check how many files a process may have open; connections of Ray and of the server count as files."""
    if limit < MIN_OPEN_FILES:
        return note("open files", f"at most {limit} per process", f"raise it: ulimit -n {MIN_OPEN_FILES}")
    return ok("open files", f"at most {limit} per process")


def processes(limit: ProcessLimit | None) -> Finding:
    """Check how many processes and threads may run; a server with one engine on two cores has about 260."""
    if limit is None:
        return ok("processes", "no limit")
    text = f"at most {limit.most} processes and threads"
    return note("processes", text, limit.remedy) if limit.most < MIN_PROCESSES else ok("processes", text)


def machine(specs: Sequence[EngineSpec]) -> list[Finding]:
    """Run all checks of this module; `specs` are the engines that the server would start."""
    gpu_list = gpus()
    return [
        processor(processor_flags(), os.cpu_count() or 1),
        *gpu(gpu_list, cuda_release()),
        *gpu_memory(gpu_list, specs),
        *gpu_reservations(specs, on_gpu=bool(gpu_list)),
        memory(available_memory(), [EngineMemory.of(spec, gpu=bool(gpu_list)) for spec in specs]),
        shared_memory(shutil.disk_usage(SHARED).total if SHARED.is_dir() else 0),
        open_files(resource.getrlimit(resource.RLIMIT_NOFILE)[0]),
        processes(process_limit()),
    ]
