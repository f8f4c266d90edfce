"""How much memory engines will allocate on this machine, and the refusal of those that cannot fit before they load.

Counts the weights in the dtype that the engine loads them in, whatever their files' dtype, vLLM's KV cache on a CPU,
and what a process with an engine's libraries takes. Where a GPU is, vLLM allocates there and nothing is counted here.
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
"""What an engine's process takes besides: the libraries, one batch's activations and logits."""
KV_CACHE_BYTES = GIB
"""vLLM's KV cache on a CPU, unless the engine's options set it."""
HALF = ("bfloat16", "float16")
_GPU = Path("/dev/nvidiactl")
_CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True, kw_only=True)
class EngineMemory:
    """The bytes that all engines of one model will allocate in this machine's memory."""

    spec: EngineSpec
    weights: int
    kv_cache: int

    @classmethod
    def of(cls, spec: EngineSpec, *, gpu: bool | None = None) -> EngineMemory:
        """Return what a spec's engines will allocate; `gpu` says whether vLLM runs on one (default: where one is).

        Nothing is counted for a folder whose weights cannot be read: its engine says what is wrong with it.
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
        """All of it, the processes too."""
        return self.weights + self.kv_cache + (PROCESS_BYTES * self.spec.count if self.weights else 0)

    def __str__(self) -> str:
        """Describe it for an error: the model, the number of engines, the parts."""
        parts = [f"weights in {self.spec.dtype} {_gib(self.weights)}"]
        parts += [f"KV cache {_gib(self.kv_cache)}"] if self.kv_cache else []
        engines = f" x {self.spec.count} engines" if self.spec.count > 1 else ""
        return f"{self.spec.model}{engines}: {', '.join(parts)}"


def require_memory(specs: Sequence[EngineSpec], *, available: int | None = None, gpu: bool | None = None) -> None:
    """Refuse engines that would need more memory than is free, before any of them is loaded.

    `available` is in bytes, by default what this machine or container has. Raises InvalidRequest (param "dtype") with
    the parts of what is needed and the remedy.
    """
    needed = [memory for memory in (EngineMemory.of(spec, gpu=gpu) for spec in specs) if memory.total]
    total = sum(memory.total for memory in needed)
    free = available_memory() if available is None else available
    if total > free:
        listed = "; ".join(map(str, needed))
        message = f"not enough memory: {_gib(total)} will be allocated, {_gib(free)} are free ({listed})"
        raise InvalidRequest(f"{message}; {remedy({spec.dtype for spec in specs})}", param="dtype")


def remedy(dtypes: set[str]) -> str:
    """Return what to do where memory is short, for engines of these dtypes."""
    half = "" if dtypes <= set(HALF) else "choose --dtype bfloat16, which halves the weights, "
    return f"{half}load a smaller model or fewer engines, or free memory"


def available_memory() -> int:
    """Return the bytes that can be had without swapping: of the machine, or of this container where that is less."""
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
    """Return the bytes of a container's `memory.stat` that are files' pages, which the kernel gives up when needed.

    `memory.current` counts them: after a model's files were read they can fill all of a container's limit.
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
