"""Checks of a model before it is downloaded or loaded: whether it can be steered, its memory, its rough speed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ampsweep.bundled import ATLAS, ATLAS_MODEL
from ampsweep.cli.checks.finding import Finding, bad, ok
from ampsweep.cli.checks.software import runs_on_cpu
from ampsweep.errors import AmpsweepError, InvalidRequest
from ampsweep.folders.hub_model import HUB_NAMES, fetch_config, is_hub_name
from ampsweep.missing_path import is_path, no_folder

if TYPE_CHECKING:
    from engine.hf.estimate import ModelEstimate

MEASURE_SECONDS = 10.0
"""Duration of the measurement of this machine's speed."""
SLOTS = 256
"""Interventions in flight of an engine with default settings."""
ENTRY_BYTES = 16
"""Size of an entry of the slot table with a statistic; without, it is 12 on a GPU."""
_SIZES = {"float32": 4, "bfloat16": 2, "float16": 2}


def model(name: str, *, dtype: str, adapters: Sequence[Path] = ()) -> list[Finding]:
    """Estimate from a model's config alone whether vLLM can run and steer it here, and what it needs.

    The other files of a downloaded model must be complete.

    Args:
        name: A folder with a config.json, a name on the Hugging Face Hub (only config.json is downloaded), or `atlas`.
        dtype: Data type in which the weights would be loaded.
        adapters: Folders of LoRA adapters that would be loaded with it.

    Raises:
        InvalidRequest: The dtype is unknown.
    """
    if dtype not in _SIZES:
        raise InvalidRequest(f"dtype must be one of {', '.join(_SIZES)}; got {dtype!r}", param="dtype")
    subject = f"model {name}"
    from ampsweep.folders.adapter import read_adapter
    from engine.vllm.adapters import Adapters
    from worker.resources.gpus import gpus

    on_cpu = runs_on_cpu(len(gpus()))
    try:
        folder = _config_folder(name)
        estimate = _checked(folder, dtype=dtype, on_cpu=on_cpu)
    except AmpsweepError as error:
        return [bad(subject, error.message, "choose a model of docs/models.md")]
    try:
        folders = [read_adapter(folder, name=folder.name) for folder in adapters]
        loaded = Adapters(folders, model=name, shapes=estimate.shapes)
    except InvalidRequest as error:
        return [bad(subject, error.message, "choose an adapter that docs/models.md describes, or leave out --lora")]
    shape = f"{estimate.widths}, {estimate.parameters / 1e6:,.1f} million weights"
    if estimate.quantization is not None:
        shape = f"{shape}, {estimate.quantized / 1e6:,.1f} million of them quantized with {estimate.quantization}"
    adapter_bytes = loaded.memory_bytes(dtype=dtype, on_cpu=on_cpu) if adapters else None
    return [
        ok(subject, f"{estimate.model_class} can be steered: {shape}"),
        *(_incomplete_files(folder) if folder == Path(name) else ()),
        _memory(estimate, adapter_bytes, dtype=dtype),
        _speed(estimate, dtype=dtype),
    ]


def _checked(folder: Path, *, dtype: str, on_cpu: bool) -> ModelEstimate:
    """Estimate a model; raise the errors with which an engine would reject it at its start."""
    from ampsweep.folders.model import folder_widths
    from engine.checkpoint import read_config
    from engine.hf.estimate import estimate_model
    from engine.vllm.models.platform_support import check_platform
    from engine.vllm.models.quantization import CpuKernels, check_quantization

    estimate = estimate_model(folder)
    folder_widths(folder)
    if (quantization := estimate.quantization) is not None:
        check_quantization(quantization, dtype=dtype, cpu=CpuKernels.of_this_machine() if on_cpu else None)
    check_platform(read_config(folder), dtype=dtype, on_cpu=on_cpu, quantization=quantization)
    return estimate


def _incomplete_files(folder: Path) -> list[Finding]:
    """Return a problem if weights or tokenizer are missing or damaged; none of a folder with nothing but a config."""
    from ampsweep.folders.model import CONFIG, check_tokenizer_files
    from ampsweep.folders.weights import check_weight_files

    if all(path.name == CONFIG or path.name.startswith(".") for path in folder.iterdir()):
        return []  # the model has not been downloaded
    try:
        check_weight_files(folder)
        check_tokenizer_files(folder)
    except InvalidRequest as error:
        return [bad("model files", error.message, "download the model again, or copy all of its files")]
    return []


def _memory(estimate: ModelEstimate, adapter_bytes: int | None, *, dtype: str) -> Finding:
    """Compare the memory that an engine of the model needs with the free memory of this machine."""
    from engine.vllm.options import table_entries
    from worker.resources.memory import GIB, KV_CACHE_BYTES, PROCESS_BYTES, available_memory

    size = _SIZES[dtype]
    weights, cached = estimate.weight_bytes(size), estimate.kv_values * size
    table = table_entries(estimate.widths, slots=SLOTS) * ENTRY_BYTES
    needed, free = weights + (adapter_bytes or 0) + KV_CACHE_BYTES + table + PROCESS_BYTES, available_memory()
    adapted = "" if adapter_bytes is None else f", adapters {adapter_bytes / GIB:.2f}"
    parts = (
        f"weights in {dtype} {weights / GIB:.1f}{adapted}, KV cache {KV_CACHE_BYTES / GIB:.1f} on a CPU "
        f"({KV_CACHE_BYTES // cached:,} tokens), slot table at most {table / GIB:.2f}, "
        f"process {PROCESS_BYTES / GIB:.1f}"
    )
    memory = f"{needed / GIB:.1f} GiB of the {free / GIB:.1f} free: {parts}"
    smaller = "choose --dtype bfloat16, or a smaller model" if size > 2 else "choose a smaller model"
    return ok("model memory", memory) if needed <= free else bad("model memory", memory, smaller)


def _speed(estimate: ModelEstimate, *, dtype: str) -> Finding:
    """Estimate rough rates of the model from the speed of this machine, which is measured."""
    from engine.hf.estimate import measure_speed

    speed, weights = measure_speed(dtype, seconds=MEASURE_SECONDS), estimate.weight_bytes(_SIZES[dtype])
    rates = (
        f"about {speed.bytes / weights:,.0f} tokens/s of one answer and {speed.flops / 2 / estimate.parameters:,.0f} "
        f"tokens/s of prompts; rough, within a factor of 3: from {speed.bytes / 1e9:.1f} GB/s of memory and "
        f"{speed.flops / 1e9:,.0f} GFLOP/s measured in {MEASURE_SECONDS:.0f} s, without attention; answers in a "
        "batch share the reading of weights"
    )
    return ok("model speed", rates)


def _config_folder(name: str) -> Path:
    folder = ATLAS_MODEL if name == ATLAS else Path(name)
    if (folder / "config.json").is_file():
        return folder
    if is_hub_name(name) and not is_path(name):
        return fetch_config(name)
    problem = f"{name} has no config.json" if folder.is_dir() else no_folder(folder)
    raise InvalidRequest(f"{problem}; give a folder with a config.json, or {HUB_NAMES}", param="model")
