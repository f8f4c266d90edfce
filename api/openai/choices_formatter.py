"""What the responses to completions and to chats share: choices, token counts, and the events of a stream."""

from __future__ import annotations

import secrets
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from ampsweep.domain.generation.chunk import Chunk
from ampsweep.errors import AmpsweepError
from api.errors import error_body
from api.openai.answer_tokens import spans_object
from api.openai.generation_request import GenerationRequest


class ChoicesFormatter(ABC):
    """Formats the response to one request, as one object or as the events of a stream.

    In addition to OpenAI's fields, each object has `neuron_set`: the id of the neuron set that steered, or null. In
    an event it belongs to the choice; in a response, to the steered choices, which all have the same one. If the
    steering depends on the text, each choice has `steered_spans`, the steered tokens of the answer, of an event those
    of its own tokens.
    """

    names_events = False
    id_prefix: ClassVar[str]
    response_object: ClassVar[str]
    event_object: ClassVar[str]

    def __init__(self, request: GenerationRequest) -> None:
        self._with_usage = request.with_usage
        self._with_continuous_usage = request.with_continuous_usage
        self._common: dict[str, Any] = {
            "id": f"{self.id_prefix}-{secrets.token_hex(16)}",
            "created": int(time.time()),
            "model": request.model,
        }
        self._choices_per_prompt = request.choices_per_prompt
        self._prompt_tokens: dict[int, int] = {}  # by the index of the prompt
        self._completion_tokens: Counter[int] = Counter()  # by the index of the choice
        self._neuron_set: str | None = None

    @abstractmethod
    def _choice(self, index: int, chunks: Sequence[Chunk]) -> dict[str, Any]:
        """Return one choice of a response, from all its chunks."""

    @abstractmethod
    def _event_choices(self, chunk: Chunk) -> Iterator[dict[str, Any]]:
        """Yield the choices of the events for one chunk."""

    def response(self, chunks: Sequence[Chunk]) -> dict[str, Any]:
        """Return the response to a request without `stream`, from the chunks of all choices."""
        by_index: dict[int, list[Chunk]] = {}
        for chunk in chunks:
            self._count(chunk)
            by_index.setdefault(chunk.index, []).append(chunk)
        self._neuron_set = next((chunk.neuron_set for chunk in chunks if chunk.neuron_set is not None), None)
        choices = [
            {**self._choice(index, choice_chunks), **spans_object(choice_chunks)}
            for index, choice_chunks in sorted(by_index.items())
        ]
        details = self._prompt_details(chunks[0])
        return {**self._object(self.response_object, choices), "usage": self._usage(), **details}

    def _prompt_details(self, _first: Chunk) -> dict[str, Any]:
        """Return the fields about the prompt, from the first chunk of an answer; none if choices have them."""
        return {}

    def events(self, chunk: Chunk) -> Iterator[dict[str, Any]]:
        """Yield the events of a stream for one chunk."""
        self._count(chunk)
        usage = self._usage_of(chunk.index) if self._with_continuous_usage else None
        details = self._prompt_details(chunk)
        for choice in self._event_choices(chunk):
            yield {**self._event([choice]), **({"usage": usage} if self._with_usage else {}), **details}
            details = {}

    def final_events(self) -> Iterator[dict[str, Any]]:
        """Yield the event with the token counts if the request asked for it."""
        if self._with_usage:
            yield {**self._event([]), "usage": self._usage()}

    def error_event(self, error: AmpsweepError) -> dict[str, Any]:
        """Return the event for an error after the beginning of a stream."""
        return error_body(error)

    def _event(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return self._object(self.event_object, choices)

    def _object(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {**self._common, "object": kind, "choices": choices, "neuron_set": self._neuron_set}

    def _count(self, chunk: Chunk) -> None:
        self._prompt_tokens[chunk.index // self._choices_per_prompt] = chunk.prompt_tokens
        self._neuron_set = chunk.neuron_set
        self._completion_tokens[chunk.index] += len(chunk.token_ids)

    def _usage(self) -> dict[str, int]:
        """Return the token counts of the whole response."""
        return _usage_object(sum(self._prompt_tokens.values()), self._completion_tokens.total())

    def _usage_of(self, index: int) -> dict[str, int]:
        """Return the token counts of a choice so far."""
        return _usage_object(self._prompt_tokens[index // self._choices_per_prompt], self._completion_tokens[index])


def _usage_object(prompt_tokens: int, completion_tokens: int) -> dict[str, int]:
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }
