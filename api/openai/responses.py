"""Formats generated text as responses and stream events in the schema of OpenAI's completions and chats."""

from __future__ import annotations

import secrets
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, NamedTuple

from ampsweep.domain.generation.chunk import Chunk, PromptPart, TokenLogprob, joined_spans
from ampsweep.domain.generation.tool_calls import CallPart
from ampsweep.errors import AmpsweepError
from api.errors import error_body
from api.openai.chat_request import ChatRequest
from api.openai.requests import CompletionRequest, GenerationRequest
from api.openai.token_details import shown_logprob
from api.openai.tool_calls import CallReader, joined

_REPLACEMENT = "�"
"""Replaces bytes that are not a complete character in a token's text."""


class ResponseFormatter(ABC):
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


def spans_object(chunks: Sequence[Chunk]) -> dict[str, Any]:
    """Return the steered spans of an answer as the field of its object; no field if steering ignores the text."""
    spans = joined_spans(chunk.steered_spans for chunk in chunks)
    return {} if spans is None else {"steered_spans": [list(span) for span in spans]}


def _usage_object(prompt_tokens: int, completion_tokens: int) -> dict[str, int]:
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }


class _Token(NamedTuple):
    """A token of a choice; the first token of a prompt has no log-probability."""

    token_id: int
    text: str
    logprob: float | None
    offset: int
    likeliest: dict[str, float | None] | None


class CompletionFormatter(ResponseFormatter):
    """Formats completions.

    The log-probabilities have `token_ids` in addition to OpenAI's fields, because tokens that are parts of a character
    cannot be distinguished by their text.
    """

    id_prefix = "cmpl"
    response_object = event_object = "text_completion"

    def __init__(self, request: CompletionRequest) -> None:
        super().__init__(request)
        self._request = request
        self._logprobs = request.logprobs
        self._generates = request.max_tokens != 0
        self._echoed: dict[int, int] = {}  # by choice, the length of the prompt that it begins with

    def _count(self, chunk: Chunk) -> None:
        super()._count(chunk)
        if not self._generates:
            self._completion_tokens.clear()

    def _choice(self, index: int, chunks: Sequence[Chunk]) -> dict[str, Any]:
        choice = self._part(index, chunks)
        if choice["logprobs"] is not None:  # the text ends before a stop string, so its tokens begin after the text
            end = len(choice["text"])
            choice["logprobs"]["text_offset"] = [min(offset, end) for offset in choice["logprobs"]["text_offset"]]
        return choice

    def _event_choices(self, chunk: Chunk) -> Iterator[dict[str, Any]]:
        yield {**self._part(chunk.index, [chunk]), **spans_object([chunk])}

    def _part(self, index: int, chunks: Sequence[Chunk]) -> dict[str, Any]:
        prompt = self._echoed_prompt(chunks)
        if prompt is not None:
            self._echoed[index] = len(prompt.text)
        text = "".join(chunk.text for chunk in chunks) if self._generates else ""
        return {
            "index": index,
            "text": text if prompt is None else prompt.text + text,
            "logprobs": None if self._logprobs is None else self._logprobs_object(index, chunks),
            "finish_reason": chunks[-1].finish_reason,
            **self._request.prompt_details(chunks[0]),
            **self._request.answer_details(chunks if self._generates else ()),
        }

    def _echoed_prompt(self, chunks: Sequence[Chunk]) -> PromptPart | None:
        return chunks[0].prompt if self._request.echo else None

    def _logprobs_object(self, index: int, chunks: Sequence[Chunk]) -> dict[str, Any]:
        logprobs: dict[str, Any] = {
            "tokens": [],
            "token_ids": [],
            "token_logprobs": [],
            "top_logprobs": [] if self._logprobs else None,
            "text_offset": [],
        }
        for token in self._tokens(index, chunks):
            logprobs["tokens"].append(token.text)
            logprobs["token_ids"].append(token.token_id)
            logprobs["token_logprobs"].append(shown_logprob(token.logprob))
            logprobs["text_offset"].append(token.offset)
            if self._logprobs:
                logprobs["top_logprobs"].append(token.likeliest)
        return logprobs

    def _tokens(self, index: int, chunks: Sequence[Chunk]) -> Iterator[_Token]:
        """Yield the tokens of a choice, those of its prompt first if it is echoed."""
        if (prompt := self._echoed_prompt(chunks)) is not None:
            for token_id, text, offset, logprob, alternatives in zip(
                prompt.token_ids,
                prompt.token_texts,
                prompt.text_offsets,
                prompt.logprobs,
                prompt.top_logprobs,
                strict=True,
            ):
                own = None if logprob is None else TokenLogprob(token_id, logprob, text)
                likeliest = None if own is None else _by_text([*alternatives[: self._logprobs], own])
                yield _Token(token_id, text, logprob, offset, likeliest)
        for token in (token for chunk in chunks if self._generates for token in chunk.tokens()):
            own, offset = token.token, token.offset + self._echoed.get(index, 0)
            yield _Token(own.token_id, own.text, own.logprob, offset, _by_text([*token.alternatives, own]))


def _by_text(tokens: Sequence[TokenLogprob]) -> dict[str, float | None]:
    """Return log-probabilities by the text of tokens; a further token with the same text has its id as the key."""
    logprobs: dict[str, float | None] = {}
    token_ids: set[int] = set()
    for token in tokens:
        if token.token_id not in token_ids:
            token_ids.add(token.token_id)
            logprobs[f"token_id:{token.token_id}" if token.text in logprobs else token.text] = shown_logprob(
                token.logprob
            )
    return logprobs


class ChatFormatter(ResponseFormatter):
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


def token_objects(chunks: Sequence[Chunk]) -> list[dict[str, Any]]:
    """Return the tokens of an answer, each with its log-probability and its likeliest alternatives."""
    return [
        {**_token_object(token.token), "top_logprobs": list(map(_token_object, token.alternatives))}
        for chunk in chunks
        for token in chunk.tokens()
    ]


def _token_object(token: TokenLogprob) -> dict[str, Any]:
    """Return a token with its log-probability; `bytes` is null for a part of a character."""
    is_text = _REPLACEMENT not in token.text
    content = list(token.text.encode()) if is_text else None
    return {"token": token.text, "logprob": shown_logprob(token.logprob), "bytes": content}
