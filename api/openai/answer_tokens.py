"""The tokens of an answer in responses: their log-probabilities, and which of them were steered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ampsweep.domain.generation.chunk import Chunk, TokenLogprob, joined_spans
from api.openai.token_details import shown_logprob

_REPLACEMENT = "�"
"""Replaces bytes that are not a complete character in a token's text."""


def spans_object(chunks: Sequence[Chunk]) -> dict[str, Any]:
    """Return the steered spans of an answer as the field of its object; no field if steering ignores the text."""
    spans = joined_spans(chunk.steered_spans for chunk in chunks)
    return {} if spans is None else {"steered_spans": [list(span) for span in spans]}


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
