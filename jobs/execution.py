"""Protocols between the HTTP layer and the execution layer; the worker implements them, the command line wires them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from ampsweep.domain.intervention import Intervention
from ampsweep.domain.neuron_set import NeuronsRef
from ampsweep.domain.prompt import TokenIds
from ampsweep.errors import AmpsweepError


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One message of a chat; the model's chat template defines the valid roles."""

    role: str
    content: str


Prompt = str | tuple[Turn, ...]
"""Text to continue, or a chat to answer."""


@dataclass(frozen=True, kw_only=True)
class CompletionCall:
    """A prompt to continue on a model of the server's list, steered by `intervention` or not.

    `neurons` is the id of a neuron set; None takes the model's default (`jobs.neuron_sets.default`). The rest is how
    `n` answers are drawn; `top_logprobs` alternatives are told for each token.
    """

    model: str
    prompt: Prompt | TokenIds
    intervention: Intervention | None
    neurons: str | None
    max_tokens: int
    n: int = 1
    temperature: float
    top_p: float
    top_k: int = 0
    min_p: float = 0.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    repetition_penalty: float = 1.0
    seed: int | None
    stop: tuple[str, ...]
    top_logprobs: int = 0


class LikelyToken(NamedTuple):
    """A token, its log-probability (natural log), and its text: U+FFFD for bytes that are no whole character."""

    token_id: int
    logprob: float
    text: str


class DrawnToken(NamedTuple):
    """A token of an answer, and its likeliest alternatives, the likeliest first; it may be among them.

    `offset` is where it begins in the answer's text, in characters.
    """

    drawn: LikelyToken
    likely: tuple[LikelyToken, ...]
    offset: int


@dataclass(frozen=True, kw_only=True)
class CompletionChunk:
    """A piece of the answer `index`: new text, and its tokens, whose own texts and alternatives come beside them.

    A token's text may come with a later chunk, or not at all (a stop string's, say). The last chunk of each answer has
    a `finish_reason` (stop, length or abort). `neuron_set` is the id of the set that steered; None where none did.
    """

    index: int = 0
    text: str
    token_ids: tuple[int, ...]
    token_texts: tuple[str, ...]
    text_offsets: tuple[int, ...]
    logprobs: tuple[float, ...]
    top_logprobs: tuple[tuple[LikelyToken, ...], ...]
    prompt_tokens: int
    finish_reason: str | None
    neuron_set: str | None = None

    def tokens(self) -> Iterator[DrawnToken]:
        """Yield the tokens, each with its alternatives."""
        for token, logprob, text, likely, offset in zip(
            self.token_ids, self.logprobs, self.token_texts, self.top_logprobs, self.text_offsets, strict=True
        ):
            yield DrawnToken(LikelyToken(token, logprob, text), likely, offset)


class Completions(Protocol):
    """Interactive generation, ahead of running sweeps. Closing the iterator aborts the generation."""

    def stream(self, call: CompletionCall) -> AsyncGenerator[CompletionChunk]:
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
    """An engine's place in numbers. `index` tells engines of a model apart; an engine that died is followed by another.

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
