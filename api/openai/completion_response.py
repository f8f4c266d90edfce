"""The answers to a completion, in the shape of OpenAI's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from api.openai.completion_request import CompletionRequest
from api.openai.responses import Answer
from jobs.execution import CompletionChunk, LikelyToken


class CompletionAnswer(Answer):
    """Writes text. `token_ids` beside the tokens tell apart those whose text alone is no text (part of a letter)."""

    prefix = "cmpl"
    whole_object = piece_object = "text_completion"

    def __init__(self, asked: CompletionRequest) -> None:
        super().__init__(asked)
        self._logprobs = asked.logprobs

    def _choice(self, index: int, chunks: Sequence[CompletionChunk]) -> dict[str, Any]:
        choice = self._part(index, chunks)
        if choice["logprobs"] is not None:  # tokens of a stop string begin behind the text, which ends before it
            end = len(choice["text"])
            choice["logprobs"]["text_offset"] = [min(offset, end) for offset in choice["logprobs"]["text_offset"]]
        return choice

    def _pieces(self, chunk: CompletionChunk) -> Iterator[dict[str, Any]]:
        yield self._part(chunk.index, [chunk])

    def _part(self, index: int, chunks: Sequence[CompletionChunk]) -> dict[str, Any]:
        return {
            "index": index,
            "text": "".join(chunk.text for chunk in chunks),
            "logprobs": None if self._logprobs is None else self._told(chunks),
            "finish_reason": chunks[-1].finish_reason,
        }

    def _told(self, chunks: Sequence[CompletionChunk]) -> dict[str, Any]:
        told: dict[str, Any] = {
            "tokens": [],
            "token_ids": [],
            "token_logprobs": [],
            "top_logprobs": [] if self._logprobs else None,
            "text_offset": [],
        }
        for token in (token for chunk in chunks for token in chunk.tokens()):
            told["tokens"].append(token.drawn.text)
            told["token_ids"].append(token.drawn.token_id)
            told["token_logprobs"].append(token.drawn.logprob)
            told["text_offset"].append(token.offset)
            if self._logprobs:
                told["top_logprobs"].append(_by_text([*token.likely, token.drawn]))
        return told


def _by_text(tokens: Sequence[LikelyToken]) -> dict[str, float]:
    """Return log-probabilities by text; of tokens with the same text, the later ones by their number."""
    found: dict[str, float] = {}
    seen: set[int] = set()
    for token in tokens:
        if token.token_id not in seen:
            seen.add(token.token_id)
            found[f"token_id:{token.token_id}" if token.text in found else token.text] = token.logprob
    return found
