"""How engines are opened by the settings of a server, or of a command that loads a model itself."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ampsweep.cli.server.settings import Settings
    from engine.vllm.settings import VllmSettings
    from jobs.planning.catalog import Catalog
    from worker.engines import EngineSpec


def served_engines(settings: Settings) -> list[EngineSpec]:
    """Return the engine specs of a server with these settings, one per model."""
    from worker.engines import EngineSpec

    shared = _vllm_settings(settings)
    return [
        EngineSpec(
            model=name,
            folder=model.path.resolve(),
            kind=settings.engine,
            dtype=settings.dtype,
            count=model.engines,
            cpus=model.cpus,
            gpus=model.gpus,
            vllm=replace(shared, adapters=model.lora, tool_call_parser=model.tool_call_parser),
        )
        for name, model in settings.served().items()
    ]


def local_engine(model: str, catalog: Catalog, settings: Settings) -> EngineSpec:
    """Return the engine spec of a model that a command loads itself."""
    from worker.engines import EngineSpec

    return EngineSpec(
        model=model,
        folder=catalog.model_path(model).resolve(),
        kind=settings.engine,
        dtype=settings.dtype,
        vllm=replace(_vllm_settings(settings), adapters=catalog.adapters.get(model, {})),
    )


def _vllm_settings(settings: Settings) -> VllmSettings:
    """Return how vLLM is run for all models."""
    from engine.vllm.settings import VllmSettings

    return VllmSettings(
        tensor_parallel_size=settings.tensor_parallel_size,
        pipeline_parallel_size=settings.pipeline_parallel_size,
        compile=settings.compile,
        batch_invariant=settings.batch_invariant,
        unfused_experts=settings.unfused_experts,
        allow_untested=settings.allow_untested_vllm,
    )


def release_warnings(kind: str, *, allowed: bool) -> tuple[str, ...]:
    """Return a warning if the engine will run on a vLLM release that was never tested, which the user has `allowed`."""
    if kind != "vllm" or not allowed:
        return ()
    from engine.vllm.versions import installed_release, untested_warning

    warning = untested_warning(installed_release())
    return () if warning is None else (warning,)
