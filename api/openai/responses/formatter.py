"""Formats generated text as an object of OpenAI's Responses API, or as the events of its stream."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ampsweep.domain.generation.chunk import Chunk
from ampsweep.domain.generation.tool_calls import CallPart
from ampsweep.errors import AmpsweepError
from api.errors import error_body
from api.openai.answer_tokens import spans_object, token_objects
from api.openai.responses.request import ResponseRequest
from jobs.execution import CompletionCall


@dataclass(kw_only=True)
class _Message:
    """A message of the output, with the chunks that had its text."""

    id: str = field(default_factory=lambda: f"msg_{secrets.token_hex(24)}")
    text: str = ""
    chunks: list[Chunk] = field(default_factory=list)


@dataclass(kw_only=True)
class _FunctionCall:
    """A call of a tool in the output."""

    call_id: str
    name: str
    arguments: str = ""
    id: str = field(default_factory=lambda: f"fc_{secrets.token_hex(24)}")


class ResponsesFormatter:
    """Formats the response to one request: a message of the assistant with one text, and calls of tools.

    A response without calls has a message, also if its text is empty. In addition to OpenAI's fields, the response has
    `neuron_set`: the id of the neuron set that steered, or null; and, if the steering depends on the text,
    `steered_spans`: the steered tokens. A stream has the events that OpenAI documents, one item after the other, each
    event with its type as its name.
    """

    names_events = True

    def __init__(self, request: ResponseRequest, call: CompletionCall) -> None:
        self._request = request
        self._sampling = call.sampling
        self._id = f"resp_{secrets.token_hex(24)}"
        self._created_at = int(time.time())
        self._reader = request.call_reader()
        self._chunks: list[Chunk] = []
        self._unplaced: list[Chunk] = []  # those whose tokens belong to no item yet
        self._items: list[_Message | _FunctionCall] = []
        self._open: _Message | _FunctionCall | None = None  # the item that grows; at most the last one
        self._events_sent = 0

    def response(self, chunks: Sequence[Chunk]) -> dict[str, Any]:
        """Return the response to a request without `stream`, from all its chunks."""
        for chunk in chunks:
            for _ in self.events(chunk):
                pass
        for _ in self._closing_events():
            pass
        return self._response()

    def events(self, chunk: Chunk) -> Iterator[dict[str, Any]]:
        """Yield the events of a stream for one chunk; before those of the first one, the events that begin it."""
        if not self._chunks:
            yield self._event("response.created", response=self._response())
            yield self._event("response.in_progress", response=self._response())
            if not self._request.offers_tools:
                yield from self._begin(_Message())
        self._chunks.append(chunk)
        self._unplaced.append(chunk)
        parsed = self._reader.read(chunk)
        if parsed.content:
            yield from self._text_events(parsed.content)
        for part in parsed.calls:
            yield from self._call_events(part)

    def final_events(self) -> Iterator[dict[str, Any]]:
        """Yield the events that close the last item and the response."""
        yield from self._closing_events()
        yield self._event(f"response.{self._status()}", response=self._response())

    def _closing_events(self) -> Iterator[dict[str, Any]]:
        if not self._items:
            yield from self._begin(_Message())
        yield from self._end()

    def _text_events(self, text: str) -> Iterator[dict[str, Any]]:
        if not isinstance(self._open, _Message):
            yield from self._begin(_Message())
        assert isinstance(self._open, _Message)
        self._open.text += text
        self._open.chunks += self._unplaced
        more = {"logprobs": self._logprobs(self._unplaced), **spans_object(self._unplaced)}
        self._unplaced = []
        yield self._item_event("response.output_text.delta", content_index=0, delta=text, **more)

    def _call_events(self, part: CallPart) -> Iterator[dict[str, Any]]:
        if part.name is not None:
            yield from self._begin(_FunctionCall(call_id=part.id or "", name=part.name))
        if part.arguments and isinstance(self._open, _FunctionCall):
            self._open.arguments += part.arguments
            yield self._item_event("response.function_call_arguments.delta", delta=part.arguments)

    def _begin(self, item: _Message | _FunctionCall) -> Iterator[dict[str, Any]]:
        """End the item before, and begin another one."""
        yield from self._end()
        self._items.append(item)
        self._open = item
        yield self._event("response.output_item.added", output_index=len(self._items) - 1, item=self._empty(item))
        if isinstance(item, _Message):
            yield self._item_event("response.content_part.added", content_index=0, part=self._part(_Message()))

    def _end(self) -> Iterator[dict[str, Any]]:
        item, self._open = self._open, None
        if item is None:
            return
        if isinstance(item, _Message):
            item.chunks += self._unplaced
            logprobs = self._logprobs(item.chunks)
            yield self._item_event("response.output_text.done", content_index=0, text=item.text, logprobs=logprobs)
            yield self._item_event("response.content_part.done", content_index=0, part=self._part(item))
        else:
            yield self._item_event("response.function_call_arguments.done", name=item.name, arguments=item.arguments)
        self._unplaced = []
        yield self._event("response.output_item.done", output_index=len(self._items) - 1, item=self._item(item))

    def error_event(self, error: AmpsweepError) -> dict[str, Any]:
        """Return the event for an error after the beginning of a stream."""
        body = error_body(error)["error"]
        assert isinstance(body, dict)
        return self._event("error", code=body["code"], message=body["message"], param=body["param"])

    def _event(self, kind: str, **fields: Any) -> dict[str, Any]:
        event = {"type": kind, "sequence_number": self._events_sent, **fields}
        self._events_sent += 1
        return event

    def _item_event(self, kind: str, **fields: Any) -> dict[str, Any]:
        """Return an event about the item that grows."""
        return self._event(kind, item_id=self._items[-1].id, output_index=len(self._items) - 1, **fields)

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
            "output": list(map(self._item, self._items)) if ended else [],
            "usage": self._usage() if ended else None,
            "neuron_set": self._chunks[-1].neuron_set if self._chunks else None,
            **spans_object(self._chunks),
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
            "reasoning": {"effort": request.reasoning and request.reasoning.effort, "summary": None},
            "service_tier": "default",
            "store": False,
            "text": {"format": self._text_format()},
            "tool_choice": self._tool_choice(),
            "tools": [tool.model_dump() for tool in request.tools or ()],
            "parallel_tool_calls": request.parallel_tool_calls is not False,
            "truncation": request.truncation or "disabled",
        }

    def _text_format(self) -> dict[str, Any]:
        """Return `text.format` of the request, without fields that are not set; plain text by default."""
        text = self._request.text
        if text is None or text.format is None:
            return {"type": "text"}
        return {name: value for name, value in asdict(text.format).items() if value is not None}

    def _tool_choice(self) -> str | dict[str, Any]:
        choice = self._request.tool_choice
        if choice is None or isinstance(choice, str):
            return choice or "auto"
        return choice.model_dump()

    def _item(self, item: _Message | _FunctionCall) -> dict[str, Any]:
        """Return an item with its content so far. Only the last one can be incomplete."""
        status = "in_progress" if item is self._open else "completed"
        if status == "completed" and item is self._items[-1] and self._status() == "incomplete":
            status = "incomplete"
        if isinstance(item, _Message):
            content = [self._part(item)]
            return {"id": item.id, "type": "message", "role": "assistant", "status": status, "content": content}
        call = {"call_id": item.call_id, "name": item.name, "arguments": item.arguments}
        return {"id": item.id, "type": "function_call", "status": status, **call}

    def _empty(self, item: _Message | _FunctionCall) -> dict[str, Any]:
        """Return an item as it begins: without a part."""
        return {**self._item(item), **({"content": []} if isinstance(item, _Message) else {})}

    def _part(self, message: _Message) -> dict[str, Any]:
        logprobs = self._logprobs(message.chunks)
        return {"type": "output_text", "text": message.text, "annotations": [], "logprobs": logprobs}

    def _logprobs(self, chunks: Sequence[Chunk]) -> list[dict[str, Any]]:
        return token_objects(chunks) if self._request.with_logprobs else []

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
