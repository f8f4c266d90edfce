"""Formats generated text as a completion, or as the events of its stream."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from ampsweep.domain.generation.chunk import Chunk, PromptPart, TokenLogprob
from api.openai.answer_tokens import spans_object
from api.openai.choices_formatter import ChoicesFormatter
from api.openai.completions.request import CompletionRequest
from api.openai.token_details import shown_logprob


class _Token(NamedTuple):
    """A token of a choice; the first token of a prompt has no log-probability."""

    token_id: int
    text: str
    logprob: float | None
    offset: int
    likeliest: dict[str, float | None] | None


class CompletionFormatter(ChoicesFormatter):
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
