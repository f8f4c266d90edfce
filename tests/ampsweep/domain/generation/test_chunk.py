"""The tokens of a chunk, each with its text, offset and alternatives."""

from __future__ import annotations

from typing import Any

import pytest

from ampsweep.domain.generation.chunk import Chunk, SampledToken, TokenLogprob, joined_spans

LIKELIEST = (TokenLogprob(7, -0.25, " a"), TokenLogprob(3, -1.5, "b"))
FIELDS: dict[str, Any] = {
    "text": "b",
    "token_ids": (3, 1),
    "token_texts": ("b", ""),
    "text_offsets": (4, 5),
    "logprobs": (-1.5, -0.125),
    "top_logprobs": (LIKELIEST, ()),
    "prompt_tokens": 2,
}


def test_each_token_has_its_text_offset_and_alternatives() -> None:
    assert list(Chunk(**FIELDS).tokens()) == [
        SampledToken(TokenLogprob(3, -1.5, "b"), LIKELIEST, 4),
        SampledToken(TokenLogprob(1, -0.125, ""), (), 5),
    ]


def test_a_chunk_whose_lists_differ_in_length_is_an_error() -> None:
    with pytest.raises(ValueError, match="shorter"):
        list(Chunk(**{**FIELDS, "logprobs": (-1.5,)}).tokens())


def test_the_steered_spans_of_an_answer_join_where_they_meet() -> None:
    assert joined_spans([None, None]) is None
    assert joined_spans([(), ()]) == []
    assert joined_spans([(), ((2, 3),), ((3, 5),), (), ((7, 8), (9, 10)), ((10, 11),)]) == [(2, 5), (7, 8), (9, 11)]
