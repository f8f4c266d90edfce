"""What the answers to completions and to chats have in common: their head, their choices, their token counts."""

from __future__ import annotations

import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from api.openai.completion_request import GenerationRequest
from jobs.execution import CompletionChunk


class Answer(ABC):
    """Writes the answer to one request in OpenAI's shape, as one object or as the events of a stream.

    Beside OpenAI's fields each object has `neuron_set`: the id of the set that steered, null where nothing did.
    """

    prefix: ClassVar[str]
    whole_object: ClassVar[str]
    piece_object: ClassVar[str]

    def __init__(self, asked: GenerationRequest) -> None:
        self._with_usage = asked.with_usage
        self._head: dict[str, Any] = {
            "id": f"{self.prefix}-{secrets.token_hex(16)}",
            "created": int(time.time()),
            "model": asked.model,
        }
        self._answers = asked.answers
        self._prompt_tokens: dict[int, int] = {}  # by the number of the prompt
        self._completion_tokens = 0
        self._neuron_set: str | None = None

    @abstractmethod
    def _choice(self, index: int, chunks: Sequence[CompletionChunk]) -> dict[str, Any]:
        """Return one choice, of all its chunks."""

    @abstractmethod
    def _pieces(self, chunk: CompletionChunk) -> Iterator[dict[str, Any]]:
        """Yield the choices of the events that tell of a chunk."""

    def whole(self, chunks: Sequence[CompletionChunk]) -> dict[str, Any]:
        """Return the answer to a request without `stream`."""
        by_index: dict[int, list[CompletionChunk]] = {}
        for chunk in chunks:
            self._count(chunk)
            by_index.setdefault(chunk.index, []).append(chunk)
        choices = [self._choice(index, own) for index, own in sorted(by_index.items())]
        return {**self._object(self.whole_object, choices), "usage": self._usage()}

    def pieces(self, chunk: CompletionChunk) -> Iterator[dict[str, Any]]:
        """Yield the events of a stream that tell of a chunk."""
        self._count(chunk)
        for choice in self._pieces(chunk):
            yield {**self._event([choice]), **({"usage": None} if self._with_usage else {})}

    def closing(self) -> Iterator[dict[str, Any]]:
        """Yield the event with the token counts, where the request asked for one."""
        if self._with_usage:
            yield {**self._event([]), "usage": self._usage()}

    def _event(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return self._object(self.piece_object, choices)

    def _object(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {**self._head, "object": kind, "choices": choices, "neuron_set": self._neuron_set}

    def _count(self, chunk: CompletionChunk) -> None:
        self._prompt_tokens[chunk.index // self._answers] = chunk.prompt_tokens
        self._neuron_set = chunk.neuron_set
        self._completion_tokens += len(chunk.token_ids)

    def _usage(self) -> dict[str, int]:
        prompt_tokens = sum(self._prompt_tokens.values())
        return {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": self._completion_tokens,
            "total_tokens": prompt_tokens + self._completion_tokens,
        }
