"""Protocols between the HTTP layer and the execution layer; the worker implements them, the command line wires them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ampsweep.domain.chunk import Chunk
from ampsweep.domain.intervention import Intervention
from ampsweep.domain.neuron_set import NeuronsRef
from ampsweep.domain.prompt import Prompt, TokenIds
from ampsweep.domain.sampling import SamplingParams
from ampsweep.errors import AmpsweepError


@dataclass(frozen=True, kw_only=True)
class CompletionCall:
    """A prompt to continue on a model of the server's list, steered by `intervention` or not.

    `neurons` is the id of a neuron set; None takes the model's default (`jobs.neuron_sets.default`).
    """

    model: str
    prompt: Prompt | TokenIds
    intervention: Intervention | None
    neurons: str | None
    sampling: SamplingParams


class Completions(Protocol):
    """Interactive generation, ahead of running sweeps. Closing the iterator aborts the generation."""

    def stream(self, call: CompletionCall) -> AsyncGenerator[Chunk]:
        """Stream a completion; errors of the input raise InvalidRequest before the first chunk."""
        ...


@dataclass(frozen=True, kw_only=True)
class IdentificationStatus:
    """Status of an identification: in progress, or failed if `error` is set."""

    error: AmpsweepError | None


class NeuronSetService(Protocol):
    """Imports, reads and identifies neuron sets. Methods that are not coroutines may block."""

    def import_set(self, model: str, neurons: Mapping[str, Mapping[str, Sequence[int]]]) -> str:
        """Publish the set of known neurons, {language: {layer: [index, ...]}}, and return its id.

        Raises UnknownName for the model, InvalidRequest with `param` naming language and layer.
        """
        ...

    def neurons(self, neuron_set_id: str) -> Mapping[str, Mapping[str, Sequence[int]]]:
        """Return a set's neurons, {language: {layer: [index, ...]}}; NotFound if there is none."""
        ...

    async def identify(self, model: str, ref: NeuronsRef) -> None:
        """Start identifying a set unless a server already does; raise Unavailable if too many are in progress."""
        ...

    def identification_status(self, neuron_set_id: str) -> IdentificationStatus | None:
        """Return the status of an identification; None if none was requested or the set exists."""
        ...


@dataclass(frozen=True, kw_only=True)
class EngineMetrics:
    """Metrics of one engine slot. `index` numbers the slots of a model; a slot's engine is replaced when it dies.

    `starts`, `failed_starts` and `deaths` count since the server began, `failures` its ends in a row without healthy
    operation in between; `supervised` says whether it is started again. `cells` and `streams` are in flight. `stats`
    are the engine's own, by their names in `engine.stats`; None where there is no engine now, or it does not answer.
    """

    model: str
    index: int
    state: str
    starts: int
    failed_starts: int
    failures: int
    deaths: int
    supervised: bool
    cells: int
    streams: int
    stats: Mapping[str, float] | None


class EngineMonitor(Protocol):
    """The engines as the routes see them: whether they are ready, what they do, and the operator's retry."""

    async def metrics(self) -> list[EngineMetrics]:
        """Return every engine's numbers, within a few seconds."""
        ...

    def engines(self) -> list[Mapping[str, Any]]:
        """Return the engines, each with the keys below.

        `model`, `engine` (its kind), `index` (from 0 among the model's), `state` (starting, ready, failed), `error`
        (why it is down, or None), `failures` (ends in a row without healthy operation in between), `supervised`
        (whether it is started again when it ends).
        """
        ...

    def retry(self, model: str) -> None:
        """Start the model's engines that have failed, or wait for their next start, now.

        Raises UnknownName for a model that has no engine here, Conflict where all of its engines are ready.
        """
        ...
