"""Opens an engine of a given kind. The library of an engine is imported only when one of its kind is opened."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ampsweep.domain.choices import ENGINE_KINDS
from ampsweep.errors import InvalidRequest, UnknownName
from ampsweep.folders.adapter import read_adapter
from ampsweep.folders.model import read_model_folder
from ampsweep.out_of_threads import named_thread_failures
from ampsweep.telemetry.start_phase import report_phase
from engine.base import Engine
from engine.out_of_memory import named_allocation_failures
from engine.vllm.settings import VllmSettings
from jobs.language_control.identifiers import open_identifier

_VLLM_ONLY = {
    "tensor_parallel_size": "tensor_parallel_size > 1 requires the vllm engine, not {kind}",
    "pipeline_parallel_size": "pipeline_parallel_size > 1 requires the vllm engine, not {kind}",
    "batch_invariant": "batch-invariant mode requires the vllm engine, not {kind}; leave out --batch-invariant",
    "unfused_experts": "only the vllm engine has a fused kernel for experts, not {kind}; leave out --unfused-experts",
    "compile": "only the vllm engine compiles the model, not {kind}; leave out --no-compile",
    "tool_call_parser": "tool calls are parsed by the vllm engine only, not by {kind}; leave out --tool-call-parser",
}
"""The errors about options that only vLLM has, by field of `VllmSettings`."""


@dataclass(frozen=True, kw_only=True)
class EngineSpec:
    """How to open the engines of one model.

    Attributes:
        model: Name of the model in requests.
        folder: Folder of its checkpoint.
        kind: One of `ENGINE_KINDS`.
        dtype: Data type in which the weights are loaded.
        count: Number of engines.
        cpus: CPU cores that Ray reserves for each engine.
        gpus: GPUs that Ray reserves for each engine.
        vllm: How vLLM is run. The fake engine has its adapters and its context length.
        options: Keyword arguments of the transformers or fake engine.
    """

    model: str
    folder: Path
    kind: str = "vllm"
    dtype: str = "float32"
    count: int = 1
    cpus: float = 1.0
    gpus: float = 0.0
    vllm: VllmSettings = field(default_factory=VllmSettings)
    options: Mapping[str, Any] = field(default_factory=dict)

    def adapter_bytes(self, *, on_cpu: bool) -> int:
        """Return the size in bytes of what vLLM reserves in each engine for the adapters; 0 without adapters.

        Args:
            on_cpu: Whether vLLM runs on a CPU.

        Raises:
            InvalidRequest: An adapter cannot be used with the model (param "lora").
        """
        if not self.vllm.adapters or self.kind != "vllm":
            return 0
        from engine.vllm.adapters import Adapters

        return Adapters.read(self.vllm.adapters, model=self.folder).memory_bytes(dtype=self.dtype, on_cpu=on_cpu)


async def open_engine(spec: EngineSpec) -> Engine:
    """Open an engine and load its model.

    Raises:
        UnknownName: There is no engine of this kind.
        InvalidRequest: An option is not supported by this kind of engine.
        UnsupportedModel: The engine cannot steer the model.
        EngineFailed: There is not enough memory (param "dtype"), or a thread cannot be started.
    """
    check_options(spec)
    report_phase("importing libraries")
    open_kind = {"vllm": _open_vllm, "transformers": _open_transformers, "fake": _open_fake}[spec.kind]
    with named_allocation_failures(f"to load {spec.model}"), named_thread_failures(f"to load {spec.model}"):
        return await open_kind(spec)


def check_options(spec: EngineSpec) -> None:
    """Check that an engine of this kind exists, and that it has the options of a spec.

    Raises:
        UnknownName: There is no engine of this kind.
        InvalidRequest: An option is not supported by this kind of engine.
    """
    if spec.kind not in ENGINE_KINDS:
        raise UnknownName("engine", spec.kind, ENGINE_KINDS, param="engine")
    if spec.kind != "vllm":
        _require_vllm_options_unset(spec)
    if spec.kind == "transformers" and spec.vllm.adapters:
        message = "LoRA adapters require the vllm engine, not transformers; leave out --lora, or merge the adapter"
        raise InvalidRequest(message, param="lora")


async def _open_vllm(spec: EngineSpec) -> Engine:
    await asyncio.to_thread(importlib.import_module, "engine.vllm.engine")  # takes seconds
    from engine.vllm.engine import VllmEngine

    return await VllmEngine.open(
        spec.folder, name=spec.model, dtype=spec.dtype, settings=spec.vllm, open_identifier=open_identifier
    )


async def _open_transformers(spec: EngineSpec) -> Engine:
    await asyncio.to_thread(importlib.import_module, "engine.hf.engine")  # takes seconds
    from engine.hf.engine import TransformersEngine

    report_phase("loading the model")
    return await asyncio.to_thread(
        lambda: TransformersEngine(
            spec.folder,
            name=spec.model,
            dtype=spec.dtype,
            open_identifier=open_identifier,
            **spec.options,
        )
    )


async def _open_fake(spec: EngineSpec) -> Engine:
    from engine.fake import FAKE_INFO, FakeEngine

    report_phase("loading the model")
    model = await asyncio.to_thread(read_model_folder, spec.folder)
    info = replace(
        FAKE_INFO,
        model=spec.model,
        fingerprint=model.fingerprint,
        layers=model.layers,
        dtype=spec.dtype,
        max_model_len=spec.vllm.max_model_len or FAKE_INFO.max_model_len,
        adapters={name: read_adapter(folder, name=name).fingerprint for name, folder in spec.vllm.adapters.items()},
    )
    return FakeEngine(info, sleep=asyncio.sleep, open_identifier=open_identifier, **spec.options)


def _require_vllm_options_unset(spec: EngineSpec) -> None:
    """Raise InvalidRequest for an option that only the vllm engine has."""
    for name, message in _VLLM_ONLY.items():
        value = getattr(spec.vllm, name)
        if value not in (getattr(VllmSettings, name), "none"):  # --tool-call-parser none asks for what the others do
            raise InvalidRequest(message.format(kind=spec.kind), param=name)
