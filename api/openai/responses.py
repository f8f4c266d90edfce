"""What the answers to completions and to chats have in common: their head, their choices, their token counts."""

from __future__ import annotations

import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from ampsweep.domain.chunk import Chunk, TokenLogprob
from api.openai.requests import ChatRequest, CompletionRequest, GenerationRequest

_NOT_TEXT = "�"
"""Stands in a token's text for bytes that are no whole character."""


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
    def _choice(self, index: int, chunks: Sequence[Chunk]) -> dict[str, Any]:
        """Return one choice, of all its chunks."""

    @abstractmethod
    def _pieces(self, chunk: Chunk) -> Iterator[dict[str, Any]]:
        """Yield the choices of the events that tell of a chunk."""

    def whole(self, chunks: Sequence[Chunk]) -> dict[str, Any]:
        """Return the answer to a request without `stream`."""
        by_index: dict[int, list[Chunk]] = {}
        for chunk in chunks:
            self._count(chunk)
            by_index.setdefault(chunk.index, []).append(chunk)
        choices = [self._choice(index, own) for index, own in sorted(by_index.items())]
        return {**self._object(self.whole_object, choices), "usage": self._usage()}

    def pieces(self, chunk: Chunk) -> Iterator[dict[str, Any]]:
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

    def _count(self, chunk: Chunk) -> None:
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


class CompletionFormatter(Answer):
    """Writes text. `token_ids` beside the tokens tell apart those whose text alone is no text (part of a letter)."""

    prefix = "cmpl"
    whole_object = piece_object = "text_completion"

    def __init__(self, asked: CompletionRequest) -> None:
        super().__init__(asked)
        self._logprobs = asked.logprobs

    def _choice(self, index: int, chunks: Sequence[Chunk]) -> dict[str, Any]:
        choice = self._part(index, chunks)
        if choice["logprobs"] is not None:  # tokens of a stop string begin behind the text, which ends before it
            end = len(choice["text"])
            choice["logprobs"]["text_offset"] = [min(offset, end) for offset in choice["logprobs"]["text_offset"]]
        return choice

    def _pieces(self, chunk: Chunk) -> Iterator[dict[str, Any]]:
        yield self._part(chunk.index, [chunk])

    def _part(self, index: int, chunks: Sequence[Chunk]) -> dict[str, Any]:
        return {
            "index": index,
            "text": "".join(chunk.text for chunk in chunks),
            "logprobs": None if self._logprobs is None else self._told(chunks),
            "finish_reason": chunks[-1].finish_reason,
        }

    def _told(self, chunks: Sequence[Chunk]) -> dict[str, Any]:
        told: dict[str, Any] = {
            "tokens": [],
            "token_ids": [],
            "token_logprobs": [],
            "top_logprobs": [] if self._logprobs else None,
            "text_offset": [],
        }
        for token in (token for chunk in chunks for token in chunk.tokens()):
            told["tokens"].append(token.token.text)
            told["token_ids"].append(token.token.token_id)
            told["token_logprobs"].append(token.token.logprob)
            told["text_offset"].append(token.offset)
            if self._logprobs:
                told["top_logprobs"].append(_by_text([*token.alternatives, token.token]))
        return told


def _by_text(tokens: Sequence[TokenLogprob]) -> dict[str, float]:
    """Return log-probabilities by text; of tokens with the same text, the later ones by their number."""
    found: dict[str, float] = {}
    seen: set[int] = set()
    for token in tokens:
        if token.token_id not in seen:
            seen.add(token.token_id)
            found[f"token_id:{token.token_id}" if token.text in found else token.text] = token.logprob
    return found


class ChatFormatter(Answer):
    """Writes an assistant's message, or the deltas that add up to it: the role, the text, the reason of the end."""

    prefix = "chatcmpl"
    whole_object = "chat.completion"
    piece_object = "chat.completion.chunk"

    def __init__(self, asked: ChatRequest) -> None:
        super().__init__(asked)
        self._logprobs = bool(asked.logprobs)
        self._begun: set[int] = set()

    def _choice(self, index: int, chunks: Sequence[Chunk]) -> dict[str, Any]:
        text = "".join(chunk.text for chunk in chunks)
        return {
            "index": index,
            "message": {"role": "assistant", "content": text, "refusal": None},
            "logprobs": self._told(chunks),
            "finish_reason": chunks[-1].finish_reason,
        }

    def _pieces(self, chunk: Chunk) -> Iterator[dict[str, Any]]:
        if chunk.index not in self._begun:
            self._begun.add(chunk.index)
            yield self._delta(chunk.index, {"role": "assistant", "content": ""})
        yield self._delta(chunk.index, {"content": chunk.text}, logprobs=self._told([chunk]))
        if chunk.finish_reason is not None:
            yield self._delta(chunk.index, {}, finish_reason=chunk.finish_reason)

    def _delta(self, index: int, delta: dict[str, str], **more: Any) -> dict[str, Any]:
        return {"index": index, "delta": delta, "logprobs": None, "finish_reason": None, **more}

    def _told(self, chunks: Sequence[Chunk]) -> dict[str, Any] | None:
        if not self._logprobs:
            return None
        tokens = [token for chunk in chunks for token in chunk.tokens()]
        content = [
            {**_token_object(token.token), "top_logprobs": list(map(_token_object, token.alternatives))}
            for token in tokens
        ]
        return {"content": content, "refusal": None}


def _token_object(token: TokenLogprob) -> dict[str, Any]:
    whole = _NOT_TEXT not in token.text
    return {"token": token.text, "logprob": token.logprob, "bytes": list(token.text.encode()) if whole else None}
