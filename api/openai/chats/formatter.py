"""Formats generated text as a message of the assistant, or as the events of its stream."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ampsweep.domain.generation.chunk import Chunk
from ampsweep.domain.generation.tool_calls import CallPart
from api.openai.answer_tokens import spans_object, token_objects
from api.openai.chats.request import ChatRequest
from api.openai.choices_formatter import ChoicesFormatter
from api.openai.tool_calls import CallReader, joined


class ChatFormatter(ChoicesFormatter):
    """Formats chats: a message of the assistant, or the deltas that add up to it.

    The deltas are the role, text, parts of the calls of tools, and the finish reason.
    """

    id_prefix = "chatcmpl"
    response_object = "chat.completion"
    event_object = "chat.completion.chunk"

    def __init__(self, request: ChatRequest) -> None:
        super().__init__(request)
        self._request = request
        self._logprobs = bool(request.logprobs)
        self._readers: dict[int, CallReader] = {}  # of the choices whose role was sent

    def _choice(self, index: int, chunks: Sequence[Chunk]) -> dict[str, Any]:
        reader = self._request.call_reader()
        text, calls = joined([reader.read(chunk) for chunk in chunks])
        message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None}
        if calls:
            message["content"] = text or None
            message["tool_calls"] = [
                {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
                for call in calls
            ]
        return {
            "index": index,
            "message": message,
            "logprobs": self._logprobs_object(chunks),
            "finish_reason": reader.finish_reason(chunks[-1]),
            **self._request.answer_details(chunks),
        }

    def _prompt_details(self, first: Chunk) -> dict[str, Any]:
        return self._request.prompt_details(first)

    def _event_choices(self, chunk: Chunk) -> Iterator[dict[str, Any]]:
        reader = self._readers.get(chunk.index)
        if reader is None:
            reader = self._readers[chunk.index] = self._request.call_reader()
            yield self._delta(chunk.index, {"role": "assistant", "content": ""})
        parsed = reader.read(chunk)
        more = {**spans_object([chunk]), **self._request.answer_details([chunk])}
        if parsed.content or self._logprobs or more or not self._request.offers_tools:
            logprobs = self._logprobs_object([chunk])
            yield self._delta(chunk.index, {"content": parsed.content}, logprobs=logprobs, **more)
        if parsed.calls:
            yield self._delta(chunk.index, {"tool_calls": list(map(_call_delta, parsed.calls))})
        if chunk.finish_reason is not None:
            yield self._delta(chunk.index, {}, finish_reason=reader.finish_reason(chunk))

    def _delta(self, index: int, delta: dict[str, Any], **more: Any) -> dict[str, Any]:
        return {"index": index, "delta": delta, "logprobs": None, "finish_reason": None, **more}

    def _logprobs_object(self, chunks: Sequence[Chunk]) -> dict[str, Any] | None:
        if not self._logprobs:
            return None
        return {"content": token_objects(chunks), "refusal": None}


def _call_delta(part: CallPart) -> dict[str, Any]:
    if part.name is None:
        return {"index": part.index, "function": {"arguments": part.arguments}}
    function = {"name": part.name, "arguments": part.arguments}
    return {"index": part.index, "id": part.id, "type": "function", "function": function}
