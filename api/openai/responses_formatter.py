"""Formats generated text as an object of OpenAI's Responses API, or as the events of its stream."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from ampsweep.domain.chunk import Chunk
from ampsweep.errors import AmpsweepError
from api.errors import error_body
from api.openai.responses import token_object
from api.openai.responses_request import ResponseRequest
from jobs.execution import CompletionCall


class ResponsesFormatter:
    """Formats the response to one request: one message of the assistant with one text.

    In addition to OpenAI's fields, the response has `neuron_set`: the id of the neuron set that steered, or null. A
    stream has the events that OpenAI documents for a text, each with its type as the name of the event.
    """

    names_events = True

    def __init__(self, request: ResponseRequest, call: CompletionCall) -> None:
        self._request = request
        self._sampling = call.sampling
        self._id = f"resp_{secrets.token_hex(24)}"
        self._item_id = f"msg_{secrets.token_hex(24)}"
        self._created_at = int(time.time())
        self._chunks: list[Chunk] = []
        self._events_sent = 0

    def response(self, chunks: Sequence[Chunk]) -> dict[str, Any]:
        """Return the response to a request without `stream`, from all its chunks."""
        self._chunks = list(chunks)
        return self._response()

    def events(self, chunk: Chunk) -> Iterator[dict[str, Any]]:
        """Yield the events of a stream for one chunk; before those of the first one, the events that open the text."""
        if not self._chunks:
            yield self._event("response.created", response=self._response())
            yield self._event("response.in_progress", response=self._response())
            yield self._event("response.output_item.added", output_index=0, item=self._item(text=None))
            yield self._part_event("response.content_part.added", part=self._part(""))
        self._chunks.append(chunk)
        if chunk.text:
            logprobs = self._logprobs([chunk])
            yield self._part_event("response.output_text.delta", delta=chunk.text, logprobs=logprobs)

    def final_events(self) -> Iterator[dict[str, Any]]:
        """Yield the events that close the text and the response."""
        text = self._text()
        yield self._part_event("response.output_text.done", text=text, logprobs=self._logprobs(self._chunks))
        yield self._part_event("response.content_part.done", part=self._part(text))
        yield self._event("response.output_item.done", output_index=0, item=self._item(text=text))
        yield self._event(f"response.{self._status()}", response=self._response())

    def error_event(self, error: AmpsweepError) -> dict[str, Any]:
        """Return the event for an error after the beginning of a stream."""
        body = error_body(error)["error"]
        assert isinstance(body, dict)
        return self._event("error", code=body["code"], message=body["message"], param=body["param"])

    def _event(self, kind: str, **fields: Any) -> dict[str, Any]:
        event = {"type": kind, "sequence_number": self._events_sent, **fields}
        self._events_sent += 1
        return event

    def _part_event(self, kind: str, **fields: Any) -> dict[str, Any]:
        return self._event(kind, item_id=self._item_id, output_index=0, content_index=0, **fields)

    def _status(self) -> str:
        if not self._chunks or self._chunks[-1].finish_reason is None:
            return "in_progress"
        return "incomplete" if self._chunks[-1].finish_reason == "length" else "completed"

    def _response(self) -> dict[str, Any]:
        request, status = self._request, self._status()
        ended = status != "in_progress"
        return {
            "id": self._id,
            "object": "response",
            "created_at": self._created_at,
            "status": status,
            "completed_at": int(time.time()) if status == "completed" else None,
            "error": None,
            "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
            "model": request.model,
            "output": [self._item(text=self._text())] if ended else [],
            "usage": self._usage() if ended else None,
            "neuron_set": self._chunks[-1].neuron_set if self._chunks else None,
            **self._settings(),
        }

    def _settings(self) -> dict[str, Any]:
        """Return the fields that repeat the request, with the defaults that apply."""
        request = self._request
        return {
            "instructions": request.instructions,
            "max_output_tokens": self._sampling.max_tokens,
            "temperature": self._sampling.temperature,
            "top_p": self._sampling.top_p,
            "top_logprobs": self._sampling.top_logprobs,
            "metadata": request.metadata or {},
            "user": request.user,
            "background": False,
            "previous_response_id": None,
            "reasoning": {"effort": None, "summary": None},
            "service_tier": "default",
            "store": False,
            "text": {"format": self._text_format()},
            "tool_choice": request.tool_choice or "auto",
            "tools": [],
            "parallel_tool_calls": request.parallel_tool_calls is not False,
            "truncation": "disabled",
        }

    def _text_format(self) -> dict[str, Any]:
        """Return `text.format` of the request, without fields that are not set; plain text by default."""
        text = self._request.text
        if text is None or text.format is None:
            return {"type": "text"}
        return {name: value for name, value in asdict(text.format).items() if value is not None}

    def _item(self, *, text: str | None) -> dict[str, Any]:
        """Return the message with its text, or without one while nothing is generated."""
        return {
            "id": self._item_id,
            "type": "message",
            "role": "assistant",
            "status": self._status(),
            "content": [] if text is None else [self._part(text)],
        }

    def _part(self, text: str) -> dict[str, Any]:
        logprobs = self._logprobs(self._chunks if text else [])
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs}

    def _text(self) -> str:
        return "".join(chunk.text for chunk in self._chunks)

    def _logprobs(self, chunks: Sequence[Chunk]) -> list[dict[str, Any]]:
        if not self._request.with_logprobs:
            return []
        return [
            {**token_object(token.token), "top_logprobs": list(map(token_object, token.alternatives))}
            for chunk in chunks
            for token in chunk.tokens()
        ]

    def _usage(self) -> dict[str, Any]:
        input_tokens = self._chunks[-1].prompt_tokens
        output_tokens = sum(len(chunk.token_ids) for chunk in self._chunks)
        return {
            "input_tokens": input_tokens,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": output_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": input_tokens + output_tokens,
        }
