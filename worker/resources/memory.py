"""Estimates how much memory engines will allocate, and rejects engines that do not fit before they are loaded.

The estimate of main memory contains the weights in the dtype in which the engine loads them (not the dtype of their
files), what vLLM reserves for LoRA adapters, its KV cache on a CPU, and the memory of a process with the libraries of
an engine. On a machine with a GPU, vLLM loads weights and adapters into GPU memory instead: each GPU's share of them is
compared with the memory that vLLM uses.

`require_memory` compares with the memory that is free here and now, for the engines of a command. `require_capacity`
compares with all memory of the machine that it runs on, for an engine that another process started there.
`worker.resources.machines` adds up the engines on each machine of a Ray cluster.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ampsweep.errors import InvalidRequest
from ampsweep.folders.weights import weight_bytes
from worker.engines import EngineSpec
from worker.resources.gpus import gpus, has_gpu, require_own_gpus, weights_per_gpu
from worker.resources.memory_limits import address_space, group_limits

GIB = 1024**3
PROCESS_BYTES = GIB // 2
"""Memory of an engine's process besides weights and cache: libraries, activations and logits of one batch."""
KV_CACHE_BYTES = GIB
"""Size of vLLM's KV cache on a CPU unless the engine's options set another one."""
HALF = ("bfloat16", "float16")
LIBRARY_ADDRESSES = {"vllm": 4 * GIB, "transformers": GIB}
"""Address space that the libraries of an engine take on a CPU, at least; little of it is memory in use."""


@dataclass(frozen=True, kw_only=True)
class EngineMemory:
    """The main memory that all engines of one model will allocate, in bytes."""

    spec: EngineSpec
    weights: int
    kv_cache: int
    adapters: int = 0

    @classmethod
    def of(cls, spec: EngineSpec, *, gpu: bool | None = None) -> EngineMemory:
        """Estimate the memory of the engines of a spec.

        The weights count as 0 if they cannot be read; the engine will report the error when it loads them.

        Args:
            spec: How the engines are opened.
            gpu: Whether vLLM runs on a GPU; by default, whether this machine has one.

        Returns:
            The memory of all engines of the spec together, in bytes.

        Raises:
            InvalidRequest: An adapter cannot be used with the model (param "lora").
        """
        on_gpu = spec.kind == "vllm" and (has_gpu() if gpu is None else gpu)
        if spec.kind == "fake" or on_gpu:
            return cls(spec=spec, weights=0, kv_cache=0)
        try:
            weights = weight_bytes(spec.folder, dtype=spec.dtype, text_only=spec.kind == "vllm")
        except (InvalidRequest, OSError):
            weights = 0
        kv_cache = (spec.vllm.kv_cache_bytes or KV_CACHE_BYTES) if spec.kind == "vllm" else 0
        adapters = spec.adapter_bytes(on_cpu=True) if weights else 0
        return cls(
            spec=spec,
            weights=weights * spec.count,
            kv_cache=kv_cache * spec.count,
            adapters=adapters * spec.count,
        )

    @property
    def total(self) -> int:
        """The sum of weights, adapters, KV caches and processes."""
        return self.weights + self.adapters + self.kv_cache + (PROCESS_BYTES * self.spec.count if self.weights else 0)

    def times(self, count: int) -> EngineMemory:
        """Return the memory of `count` times as many engines."""
        spec = replace(self.spec, count=self.spec.count * count)
        return EngineMemory(
            spec=spec,
            weights=self.weights * count,
            kv_cache=self.kv_cache * count,
            adapters=self.adapters * count,
        )

    def __str__(self) -> str:
        """Return the model, the number of engines and the parts of the estimate, for an error message."""
        parts = [f"weights in {self.spec.dtype} {gib(self.weights)}"]
        parts += [f"adapters {gib(self.adapters)}"] if self.adapters else []
        parts += [f"KV cache {gib(self.kv_cache)}"] if self.kv_cache else []
        engines = f" x {self.spec.count} engines" if self.spec.count > 1 else ""
        return f"{self.spec.model}{engines}: {', '.join(parts)}"


@dataclass(frozen=True, kw_only=True)
class GpuShortage:
    """Why the weights of a model do not fit into a GPU, and what to do."""

    detail: str
    remedy: str


def gpu_shortage(spec: EngineSpec, usable: int) -> GpuShortage | None:
    """Compare the weights and adapters that each GPU of an engine holds with `usable` bytes; return None if they fit.

    Raises:
        InvalidRequest: An adapter cannot be used with the model (param "lora").
    """
    share = weights_per_gpu(spec) if spec.kind == "vllm" else 0
    if share <= usable:
        return None
    adapters = " and adapters" if spec.vllm.adapters else ""
    needs = f"model {spec.model} needs {gib(share)} per GPU for its weights{adapters} in {spec.dtype}"
    half = "" if spec.dtype in HALF else "choose --dtype bfloat16, "
    return GpuShortage(
        detail=f"{needs}; {gib(usable)} are usable",
        remedy=f"{half}raise --tensor-parallel-size, or load a smaller model",
    )


def require_memory(
    specs: Sequence[EngineSpec], *, available: int | None = None, gpu: bool | None = None
) -> tuple[str, ...]:
    """Reject engines that need more memory than is available, before any of them is loaded.

    Args:
        specs: The engines.
        available: Available memory in bytes; by default, that of this machine or container.
        gpu: Whether vLLM runs on a GPU; by default, whether this machine has one.

    Returns:
        Warnings about memory that could not be checked.

    Raises:
        InvalidRequest: The engines do not fit (param "dtype"), reserve more GPUs than there are, or would share them
            (param "models"). The message lists the parts and a remedy.
    """
    needed = [memory for memory in (EngineMemory.of(spec, gpu=gpu) for spec in specs) if memory.total]
    total = sum(memory.total for memory in needed)
    free = available_memory() if available is None else available
    if total > free:
        listed = "; ".join(map(str, needed))
        message = f"not enough memory: {gib(total)} will be allocated, {gib(free)} are free ({listed})"
        raise InvalidRequest(f"{message}; {remedy({spec.dtype for spec in specs})}", param="dtype")
    _require_addresses(needed)
    on_gpu = has_gpu() if gpu is None else gpu
    require_gpus(specs, on_gpu=on_gpu)
    return _require_gpu_memory(specs, on_gpu=on_gpu)


def require_capacity(spec: EngineSpec) -> tuple[str, ...]:
    """Reject one engine that needs more memory than this machine or container has in total.

    Memory that is in use counts too, because another process may free it. A rejected engine can therefore never start
    here.

    Returns:
        Warnings about memory that could not be checked.

    Raises:
        InvalidRequest: The engine does not fit (param "dtype").
    """
    needed = EngineMemory.of(replace(spec, count=1))
    capacity = total_memory()
    if needed.total > capacity:
        message = f"not enough memory on {socket.gethostname()}: {gib(needed.total)} will be allocated"
        message = f"{message}, the machine has {gib(capacity)} ({needed}); {remedy({spec.dtype})}"
        raise InvalidRequest(message, param="dtype")
    return _require_gpu_memory([spec], on_gpu=has_gpu())


def _require_addresses(needed: Sequence[EngineMemory]) -> None:
    """Reject engines one of which needs more than a process may have by the limit on its address space."""
    if (limit := address_space()) is None:
        return
    for memory in needed:
        libraries = LIBRARY_ADDRESSES.get(memory.spec.kind, 0)
        one = memory.total // memory.spec.count + libraries
        if one > limit:
            detail = f"{memory}; libraries {gib(libraries)}"
            message = f"not enough address space: {gib(one)} will be allocated, {gib(limit)} is the limit ({detail})"
            advice = f"lift it (ulimit -v unlimited), {remedy({memory.spec.dtype})}"
            raise InvalidRequest(f"{message}; {advice}", param="dtype")


def require_gpus(specs: Sequence[EngineSpec], *, on_gpu: bool) -> None:
    """Reject engines of this machine that reserve more GPUs than it has, or that would share one.

    Raises:
        InvalidRequest: The engines need more GPUs (param "models").
    """
    reserved = sum(spec.gpus * spec.count for spec in specs)
    count = len(gpus()) if on_gpu and reserved else 0
    if reserved > count and (count or not on_gpu):  # the driver of a GPU may be unable to list it
        models = ", ".join(f"{spec.model} {spec.gpus * spec.count:g}" for spec in specs if spec.gpus)
        message = f"the engines reserve {reserved:g} GPUs ({models}), and this machine has {count or 'none'}"
        advice = "reduce `engines` or `gpus` of these models in the file that AMPSWEEP_MODELS names"
        raise InvalidRequest(f"{message}, so that some would never start; {advice}", param="models")
    if on_gpu:
        require_own_gpus(specs)


def _require_gpu_memory(specs: Sequence[EngineSpec], *, on_gpu: bool) -> tuple[str, ...]:
    """Reject engines whose weights fit into none of the GPUs; return a warning if the GPUs cannot be read."""
    models = [spec.model for spec in specs if spec.kind == "vllm"]
    if not models or not on_gpu:
        return ()
    gpu_list = gpus()
    if not gpu_list:
        warning = f"nvidia-smi reports no GPU, so it was not checked whether {', '.join(models)} fits into GPU memory"
        return (f"{warning}; `ampsweep doctor` checks the installation",)
    usable = max(gpu.usable for gpu in gpu_list)
    for shortage in (gpu_shortage(spec, usable) for spec in specs):
        if shortage is not None:
            raise InvalidRequest(f"not enough GPU memory: {shortage.detail}; {shortage.remedy}", param="dtype")
    return ()


def remedy(dtypes: set[str]) -> str:
    """Return advice for engines of these dtypes that do not fit into memory."""
    half = "" if dtypes <= set(HALF) else "choose --dtype bfloat16, which halves the weights, "
    return f"{half}load a smaller model or fewer engines, or free memory"


def total_memory() -> int:
    """Return all memory of the machine in bytes, or the smallest limit of the groups that this process is in."""
    return min([_meminfo("MemTotal"), *(limit.total for limit in group_limits())])


def available_memory() -> int:
    """Return the memory available without swapping in bytes, on the machine and within the limits of its groups."""
    return min([_meminfo("MemAvailable"), *(limit.free for limit in group_limits())])


def _meminfo(name: str) -> int:
    """Return a value of /proc/meminfo in bytes."""
    fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text(encoding="utf-8").splitlines())
    return int(fields[name].split()[0]) * 1024


def gib(size: int) -> str:
    """Return a number of bytes as text, in GiB."""
    return f"{size / GIB:.1f} GiB"
