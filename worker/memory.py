"""Estimates how much main memory engines will allocate, and rejects engines that do not fit before they are loaded.

The estimate contains the weights in the dtype in which the engine loads them (not the dtype of their files), vLLM's KV
cache on a CPU, and the memory of a process with the libraries of an engine. On a machine with a GPU, vLLM allocates GPU
memory, which is not counted here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ampsweep.errors import InvalidRequest
from ampsweep.folders.weights import weight_bytes
from worker.engines import EngineSpec

GIB = 1024**3
PROCESS_BYTES = GIB // 2
"""Memory of an engine's process besides weights and cache: libraries, activations and logits of one batch."""
KV_CACHE_BYTES = GIB
"""Size of vLLM's KV cache on a CPU unless the engine's options set another one."""
HALF = ("bfloat16", "float16")
_GPU = Path("/dev/nvidiactl")
_CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True, kw_only=True)
class EngineMemory:
    """The main memory that all engines of one model will allocate, in bytes."""

    spec: EngineSpec
    weights: int
    kv_cache: int

    @classmethod
    def of(cls, spec: EngineSpec, *, gpu: bool | None = None) -> EngineMemory:
        """Estimate the memory of the engines of a spec.

        The weights count as 0 if they cannot be read; the engine will report the error when it loads them.

        Args:
            spec: How the engines are opened.
            gpu: Whether vLLM runs on a GPU; by default, whether this machine has one.

        Returns:
            The memory of all engines of the spec together, in bytes.
        """
        on_gpu = spec.kind == "vllm" and (_GPU.exists() if gpu is None else gpu)
        if spec.kind == "fake" or on_gpu:
            return cls(spec=spec, weights=0, kv_cache=0)
        try:
            weights = weight_bytes(spec.folder, dtype=spec.dtype)
        except (InvalidRequest, OSError):
            weights = 0
        kv_cache = int(spec.options.get("kv_cache_bytes") or KV_CACHE_BYTES) if spec.kind == "vllm" else 0
        return cls(spec=spec, weights=weights * spec.count, kv_cache=kv_cache * spec.count)

    @property
    def total(self) -> int:
        """The sum of weights, KV caches and processes."""
        return self.weights + self.kv_cache + (PROCESS_BYTES * self.spec.count if self.weights else 0)

    def __str__(self) -> str:
        """Return the model, the number of engines and the parts of the estimate, for an error message."""
        parts = [f"weights in {self.spec.dtype} {_gib(self.weights)}"]
        parts += [f"KV cache {_gib(self.kv_cache)}"] if self.kv_cache else []
        engines = f" x {self.spec.count} engines" if self.spec.count > 1 else ""
        return f"{self.spec.model}{engines}: {', '.join(parts)}"


def require_memory(specs: Sequence[EngineSpec], *, available: int | None = None, gpu: bool | None = None) -> None:
    """Reject engines that need more memory than is available, before any of them is loaded.

    Args:
        specs: The engines.
        available: Available memory in bytes; by default, that of this machine or container.
        gpu: Whether vLLM runs on a GPU; by default, whether this machine has one.

    Raises:
        InvalidRequest: The engines do not fit (param "dtype"). The message lists the parts and a remedy.
    """
    needed = [memory for memory in (EngineMemory.of(spec, gpu=gpu) for spec in specs) if memory.total]
    total = sum(memory.total for memory in needed)
    free = available_memory() if available is None else available
    if total > free:
        listed = "; ".join(map(str, needed))
        message = f"not enough memory: {_gib(total)} will be allocated, {_gib(free)} are free ({listed})"
        raise InvalidRequest(f"{message}; {remedy({spec.dtype for spec in specs})}", param="dtype")


def remedy(dtypes: set[str]) -> str:
    """Return advice for engines of these dtypes that do not fit into memory."""
    half = "" if dtypes <= set(HALF) else "choose --dtype bfloat16, which halves the weights, "
    return f"{half}load a smaller model or fewer engines, or free memory"


def available_memory() -> int:
    """Return the memory available without swapping in bytes, on the machine or within the limit of this container."""
    fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text(encoding="utf-8").splitlines())
    free = int(fields["MemAvailable"].split()[0]) * 1024
    limit, used = _number(_CGROUP / "memory.max"), _number(_CGROUP / "memory.current")
    if limit is None or used is None:
        return free
    try:
        cache = page_cache((_CGROUP / "memory.stat").read_text(encoding="utf-8"))
    except OSError:
        cache = 0
    return min(free, limit - used + cache)


def page_cache(stat: str) -> int:
    """Return the size of the page cache of a container in bytes, from the content of its `memory.stat`.

    The kernel frees the page cache when memory is needed, but `memory.current` includes it. After the files of a model
    have been read, the page cache can fill the container up to its limit.
    """
    fields = dict(line.split() for line in stat.splitlines())
    return sum(int(fields.get(name, 0)) for name in ("active_file", "inactive_file"))


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _gib(size: int) -> str:
    return f"{size / GIB:.1f} GiB"
