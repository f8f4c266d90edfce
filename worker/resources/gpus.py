"""The GPUs of this machine as their driver reports them, and how much of a model each must hold."""

from __future__ import annotations

import csv
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ampsweep.errors import InvalidRequest
from ampsweep.folders.weights import weight_bytes
from worker.engines import EngineSpec

USABLE_SHARE = 0.9
"""Share of a GPU's memory that vLLM uses for weights, KV cache and activations."""
_MIB = 1024**2
_QUERY = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total,memory.free", "--format=csv,noheader,nounits"]


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """A GPU as its driver reports it; memory in MiB."""

    name: str
    driver: str
    total: int
    free: int

    @property
    def usable(self) -> int:
        """The memory that vLLM uses, in bytes."""
        return int(self.total * _MIB * USABLE_SHARE)


def has_gpu() -> bool:
    """Return whether this machine has an NVIDIA GPU, on which vLLM runs."""
    return Path("/dev/nvidiactl").exists()


def gpus() -> list[Gpu]:
    """Return the GPUs of this machine; an empty list without a driver."""
    if shutil.which(_QUERY[0]) is None:
        return []
    try:
        ended = subprocess.run(_QUERY, capture_output=True, text=True, timeout=30, check=False)  # noqa: S603
    except subprocess.TimeoutExpired:
        return []
    return read_gpus(ended.stdout) if ended.returncode == 0 else []


def read_gpus(text: str) -> list[Gpu]:
    """Parse the output of nvidia-smi: per GPU a line with name, driver, memory and free memory. Skips other lines."""
    rows = [row for row in csv.reader(text.splitlines(), skipinitialspace=True) if len(row) == 4 and row[2].isdigit()]
    return [
        Gpu(name=name, driver=driver, total=int(total), free=int(free) if free.isdigit() else 0)
        for name, driver, total, free in rows
    ]


def weights_per_gpu(spec: EngineSpec) -> int:
    """Return the bytes of an engine's weights and adapters that each of its GPUs holds.

    The weights count as 0 if they cannot be read; the engine will report the error when it loads them. Tensor
    parallelism does not divide the first of the two matrices of an adapter, so none are divided here.

    Raises:
        InvalidRequest: An adapter cannot be used with the model (param "lora").
    """
    try:
        weights = weight_bytes(spec.folder, dtype=spec.dtype, text_only=True)
    except (InvalidRequest, OSError):
        return 0
    shared = weights // spec.vllm.tensor_parallel_size + spec.adapter_bytes(on_cpu=False)
    return shared // spec.vllm.pipeline_parallel_size


def require_own_gpus(specs: Sequence[EngineSpec], *, where: str = "") -> None:
    """Reject vLLM engines on a machine with GPUs that would share one, since each takes most of a GPU's memory.

    Ray gives an engine GPUs of its own only if the engine reserves as many as it uses. Otherwise it uses the first ones
    of the machine. A single engine needs no reservation.

    Args:
        specs: All engines on the machine.
        where: The name of the machine for the message, such as " on worker-3"; empty for this machine.

    Raises:
        InvalidRequest: An engine would share a GPU (param "models").
    """
    engines = [spec for spec in specs if spec.kind == "vllm"]
    if sum(spec.count for spec in engines) < 2:
        return
    for spec in engines:
        used = spec.vllm.workers
        if spec.gpus < used:
            taken = f"every engine takes {USABLE_SHARE:.0%} of the memory of its GPUs"
            reserved = f"model {spec.model} reserves {spec.gpus:g} of the {used} that an engine of it uses"
            raise InvalidRequest(
                f"engines would share a GPU{where}: {taken}, and {reserved}; set `gpus: {used}` for each model in the "
                "file that AMPSWEEP_MODELS names, or offer one engine (--no-atlas leaves the bundled model out)",
                param="models",
            )
