"""The answers to a chat, in the shape of OpenAI's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from api.openai.chat_request import ChatRequest
from api.openai.responses import Answer
from jobs.execution import CompletionChunk, LikelyToken

_NOT_TEXT = "�"
"""Stands in a token's text for bytes that are no whole character."""


class ChatAnswer(Answer):
    """Writes an assistant's message, or the deltas that add up to it: the role, the text, the reason of the end."""

    prefix = "chatcmpl"
    whole_object = "chat.completion"
    piece_object = "chat.completion.chunk"

    def __init__(self, asked: ChatRequest) -> None:
        super().__init__(asked)
        self._logprobs = bool(asked.logprobs)
        self._begun: set[int] = set()

    def _choice(self, index: int, chunks: Sequence[CompletionChunk]) -> dict[str, Any]:
        text = "".join(chunk.text for chunk in chunks)
        return {
            "index": index,
            "message": {"role": "assistant", "content": text, "refusal": None},
            "logprobs": self._told(chunks),
            "finish_reason": chunks[-1].finish_reason,
        }

    def _pieces(self, chunk: CompletionChunk) -> Iterator[dict[str, Any]]:
        if chunk.index not in self._begun:
            self._begun.add(chunk.index)
            yield self._delta(chunk.index, {"role": "assistant", "content": ""})
        yield self._delta(chunk.index, {"content": chunk.text}, logprobs=self._told([chunk]))
        if chunk.finish_reason is not None:
            yield self._delta(chunk.index, {}, finish_reason=chunk.finish_reason)

    def _delta(self, index: int, delta: dict[str, str], **more: Any) -> dict[str, Any]:
        return {"index": index, "delta": delta, "logprobs": None, "finish_reason": None, **more}

    def _told(self, chunks: Sequence[CompletionChunk]) -> dict[str, Any] | None:
        if not self._logprobs:
            return None
        tokens = [token for chunk in chunks for token in chunk.tokens()]
        content = [{**_told(token.drawn), "top_logprobs": list(map(_told, token.likely))} for token in tokens]
        return {"content": content, "refusal": None}


def _told(token: LikelyToken) -> dict[str, Any]:
    whole = _NOT_TEXT not in token.text
    return {"token": token.text, "logprob": token.logprob, "bytes": list(token.text.encode()) if whole else None}
