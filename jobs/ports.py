"""What the HTTP layer needs of the muscle: protocols that the worker implements and the command line puts together."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, kw_only=True)
class CompletionCall:
    """A prompt to continue on a model of the server's list, steered by `intervention` (public JSON form) or not.

    `neurons` is the id of a neuron set; None takes the newest one of the model.
    """

    model: str
    prompt: str
    intervention: Mapping[str, Any] | None
    neurons: str | None
    max_tokens: int
    temperature: float
    top_p: float
    seed: int | None
    stop: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class CompletionChunk:
    """A piece of streamed text; the last has a `finish_reason` (stop, length or abort)."""

    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    prompt_tokens: int
    finish_reason: str | None


class Completions(Protocol):
    """Interactive generation, beside running sweeps. Closing the iterator aborts the generation."""

    def stream(self, call: CompletionCall) -> AsyncGenerator[CompletionChunk]:
        """Stream a completion; errors of the input raise InvalidRequest before the first chunk."""
        ...


class Muscle(Protocol):
    """What the health routes ask: are there engines, and do they live."""

    def engines(self) -> list[Mapping[str, Any]]:
        """Return for each engine its `model`, `state` (starting, ready, failed) and `error`."""
        ...
