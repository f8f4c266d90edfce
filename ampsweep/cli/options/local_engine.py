"""The options that open an engine in this process, which several commands share, as one parameter of a command."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from ampsweep.cli.options.engine import (
    AllowUntestedVllm,
    BatchInvariant,
    Compile,
    Dtype,
    Kind,
    PipelineParallel,
    TensorParallel,
    UnfusedExperts,
    Verbose,
    model_folder,
    opened_engine,
    whether_to_compile,
)

if TYPE_CHECKING:
    from engine.base import Engine
    from engine.neurons.neuron_set import NeuronSet

_OF_ENGINE = (
    "tensor_parallel_size",
    "pipeline_parallel_size",
    "batch_invariant",
    "unfused_experts",
    "allow_untested_vllm",
)


@dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """How an engine is opened in this process. Each field is an option, in this order."""

    engine: Kind = "vllm"
    dtype: Dtype = "float32"
    tensor_parallel_size: TensorParallel = None
    pipeline_parallel_size: PipelineParallel = None
    batch_invariant: BatchInvariant = False
    unfused_experts: UnfusedExperts = False
    allow_untested_vllm: AllowUntestedVllm = False
    compiles: Compile = None
    verbose: Verbose = False

    def of_engine(self) -> dict[str, object]:
        """Return the options that only an engine in this process has, by name; None or false if they were not given."""
        return {name: getattr(self, name) for name in _OF_ENGINE} | {"compile": self.compiles is not None}

    def settings(self) -> dict[str, Any]:
        """Return the options as those of a server, for `read_settings`; None leaves one to the environment."""
        given = {name: value or None for name, value in self.of_engine().items()}
        return {**given, "engine": self.engine, "dtype": self.dtype, "compile": self.compiles}

    def opened(
        self,
        model: str,
        *,
        neurons: NeuronSet | None,
        adapters: Mapping[str, Path],
        requests: int,
        as_json: bool,
    ) -> AbstractAsyncContextManager[Engine]:
        """Return a context manager that opens the engine for a job of so many requests; see `opened_engine`.

        Raises:
            InvalidRequest: There is no such model, or the engine never compiles, but is to (param "compile").
        """
        from engine.vllm.settings import VllmSettings
        from worker.engines import EngineSpec

        spec = EngineSpec(
            model=model,
            folder=model_folder(model),
            kind=self.engine,
            dtype=self.dtype,
            vllm=VllmSettings(
                tensor_parallel_size=self.tensor_parallel_size or 1,
                pipeline_parallel_size=self.pipeline_parallel_size or 1,
                compile=whether_to_compile(self.compiles, kind=self.engine, requests=requests, as_json=as_json),
                batch_invariant=self.batch_invariant,
                unfused_experts=self.unfused_experts,
                allow_untested=self.allow_untested_vllm,
                adapters=adapters,
            ),
        )
        return opened_engine(spec, neurons=neurons)


def takes_engine_options(command: Callable[..., None]) -> Callable[..., None]:
    """Decorate a command: its parameter of the type `EngineOptions` becomes an option for each field."""
    signature = inspect.signature(command, eval_str=True)
    (bundle,) = (each for each in signature.parameters.values() if each.annotation is EngineOptions)
    hints = get_type_hints(EngineOptions, include_extras=True)
    options = [
        bundle.replace(name=field.name, default=field.default, annotation=hints[field.name])
        for field in fields(EngineOptions)
    ]

    @wraps(command)
    def run(**given: Any) -> None:
        chosen = {option.name: given.pop(option.name) for option in options}
        command(**given, **{bundle.name: EngineOptions(**chosen)})

    parameters = [
        option for each in signature.parameters.values() for option in (options if each is bundle else [each])
    ]
    command_line = signature.replace(parameters=parameters)
    run.__signature__ = command_line  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    return run
