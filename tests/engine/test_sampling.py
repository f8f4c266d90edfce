"""Sampling parameters are checked against the vocabulary, the context and the tokenizer of a model."""

from __future__ import annotations

from typing import Any

import pytest

from ampsweep.domain.generation.sampling import SamplingParams
from ampsweep.errors import InvalidRequest
from engine.sampling import bad_word_tokens, check_allowed_tokens, check_room, check_special_tokens, check_token_ids
from engine.tokenization import TextEncoder
from tests.engine.tokenizers import byte_level, sentence_piece, word_piece


class Words:
    """A tokenizer of single characters, in which a space and the letter after it are one token."""

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        assert not add_special_tokens
        ids = [ord(character) for character in text.removeprefix(" ")]
        return [ids[0] + 1000, *ids[1:]] if text.startswith(" ") and ids else ids


def test_the_first_id_outside_the_vocabulary_is_named() -> None:
    check_token_ids(SamplingParams(stop_token_ids=(0, 9), logit_bias={9: 1.0}), vocabulary=10)
    for sampling, path in (
        (SamplingParams(stop_token_ids=(9, 10, 11)), "stop_token_ids.1"),
        (SamplingParams(logit_bias={9: 1.0, 12: 1.0}), "logit_bias.12"),
        (SamplingParams(logit_bias={-1: 1.0}), "logit_bias.-1"),
    ):
        with pytest.raises(InvalidRequest, match=r"has 10 tokens.*name an id from 0 to 9") as refused:
            check_token_ids(sampling, vocabulary=10)
        assert refused.value.param == path


@pytest.mark.parametrize(
    "sampling",
    [
        {"allowed_token_ids": (7,), "min_tokens": 2},  # the end-of-sequence token
        {"allowed_token_ids": (5, 7), "stop_token_ids": (5,), "min_tokens": 1},
        {"allowed_token_ids": (98,), "bad_words": ("b",)},
        {"allowed_token_ids": (7, 98), "bad_words": ("b",), "min_tokens": 1},
    ],
)
def test_allowed_tokens_that_other_fields_exclude_are_refused(sampling: dict[str, Any]) -> None:
    def check(**fields: Any) -> None:
        words = bad_word_tokens(Words(), fields.get("bad_words", ()))
        check_allowed_tokens(SamplingParams(**fields), end_tokens=(7,), bad_words=words)

    with pytest.raises(InvalidRequest, match="exclude all of these tokens") as refused:
        check(**sampling)
    assert refused.value.param == "allowed_token_ids"
    check(**{**sampling, "allowed_token_ids": (*sampling["allowed_token_ids"], 6)})
    check(**{**sampling, "min_tokens": 0, "bad_words": ("bc",)})


def test_an_encoder_knows_the_token_that_ends_a_text() -> None:
    tokenizer = byte_level()
    encoder = TextEncoder(tokenizer, embedding_rows=len(tokenizer))
    sampling = SamplingParams(allowed_token_ids=(tokenizer.eos_token_id,), min_tokens=1)
    with pytest.raises(InvalidRequest, match="exclude all of these tokens"):
        encoder.check_sampling(sampling, prompt_tokens=1, max_model_len=100)


def test_spaces_between_special_tokens_can_be_left_out_where_there_are_none() -> None:
    without = SamplingParams(skip_special_tokens=False, spaces_between_special_tokens=False)
    check_special_tokens(without, byte_level())
    for harmless in (SamplingParams(spaces_between_special_tokens=False), SamplingParams(skip_special_tokens=False)):
        check_special_tokens(harmless, word_piece())
    with pytest.raises(InvalidRequest, match="puts spaces between special tokens") as refused:
        check_special_tokens(without, word_piece())
    assert refused.value.param == "spaces_between_special_tokens"


def test_as_many_tokens_must_fit_as_are_required() -> None:
    check_room(SamplingParams(max_tokens=50, min_tokens=30), prompt_tokens=70, max_model_len=100)
    with pytest.raises(InvalidRequest, match="has room for 30 after the 70 tokens of the prompt") as refused:
        check_room(SamplingParams(max_tokens=50, min_tokens=31), prompt_tokens=70, max_model_len=100)
    assert refused.value.param == "min_tokens"


def test_a_bad_word_has_tokens_at_the_start_and_others_after_a_space() -> None:
    assert bad_word_tokens(Words(), ["ab", " ab", "ab"]) == [[97, 98], [1097, 98], [97, 98], [1097, 98]]
    pieces = sentence_piece()  # writes a space in front of every text, so both forms are the same
    assert bad_word_tokens(pieces, ["end"]) == [pieces.encode("end", add_special_tokens=False)]


def test_bad_words_without_a_token_or_with_too_many_are_refused() -> None:
    class Nothing(Words):
        def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
            return []

    with pytest.raises(InvalidRequest, match="has no token of the model") as refused:
        bad_word_tokens(Nothing(), ["a"])
    assert refused.value.param == "bad_words.0"
    with pytest.raises(InvalidRequest, match="has 1200 tokens, but at most 1024") as refused:
        bad_word_tokens(Words(), ["a" * 600])
    assert refused.value.param == "bad_words"
