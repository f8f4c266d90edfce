"""The answers to a completion, in the shape of OpenAI's: one object, or the pieces of a stream."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from typing import Any

from api.completion_request import CompletionRequest
from jobs.ports import CompletionChunk


class CompletionAnswer:
    """Writes the answer to one request; a token stands as `token_id:<number>`, since its text alone may be no text."""

    def __init__(self, asked: CompletionRequest) -> None:
        self._asked = asked
        self._head = {
            "id": f"cmpl-{secrets.token_hex(16)}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": asked.model,
        }
        self._prompt_tokens = 0
        self._completion_tokens = 0

    def whole(self, chunks: Sequence[CompletionChunk]) -> dict[str, Any]:
        """Return the answer to a request without `stream`."""
        for chunk in chunks:
            self._count(chunk)
        return {**self._head, "choices": [self._choice(chunks)], "usage": self._usage()}

    def piece(self, chunk: CompletionChunk) -> dict[str, Any]:
        """Return one event of a stream."""
        self._count(chunk)
        return {**self._head, "choices": [self._choice([chunk])]}

    def closing_usage(self) -> dict[str, Any] | None:
        """Return the event with the token counts, where the request asked for one."""
        options = self._asked.stream_options
        if options is None or not options.include_usage:
            return None
        return {**self._head, "choices": [], "usage": self._usage()}

    def _count(self, chunk: CompletionChunk) -> None:
        self._prompt_tokens = chunk.prompt_tokens
        self._completion_tokens += len(chunk.token_ids)

    def _choice(self, chunks: Sequence[CompletionChunk]) -> dict[str, Any]:
        logprobs = None
        if self._asked.logprobs is not None:
            logprobs = {
                "tokens": [f"token_id:{token}" for chunk in chunks for token in chunk.token_ids],
                "token_logprobs": [value for chunk in chunks for value in chunk.logprobs],
                "top_logprobs": None,
                "text_offset": None,
            }
        return {
            "index": 0,
            "text": "".join(chunk.text for chunk in chunks),
            "logprobs": logprobs,
            "finish_reason": chunks[-1].finish_reason,
        }

    def _usage(self) -> dict[str, int]:
        return {
            "prompt_tokens": self._prompt_tokens,
            "completion_tokens": self._completion_tokens,
            "total_tokens": self._prompt_tokens + self._completion_tokens,
        }
