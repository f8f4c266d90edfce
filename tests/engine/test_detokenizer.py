from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from engine.detokenizer import TextStream, TokenTexts
from tests.models import Family


@pytest.fixture(scope="module")
def tokenizer(model_folder: Callable[[Family], Path]) -> Any:
    return AutoTokenizer.from_pretrained(model_folder("llama"))


def _pieces(tokenizer: Any, text: str, stop: tuple[str, ...] = ()) -> tuple[list[str], bool]:
    stream = TextStream(tokenizer, tokenizer.encode("Before"), stop)
    pieces = []
    for token in tokenizer.encode(text, add_special_tokens=False):
        pieces.append(stream.push(token))
        if stream.stopped:
            return pieces, True
    return [*pieces, stream.finish()], False


@given(text=st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\ufffd"), max_size=20))
def test_the_pieces_make_the_text_and_none_is_broken(tokenizer: Any, text: str) -> None:
    pieces, _ = _pieces(tokenizer, text)
    assert "".join(pieces) == text
    assert not any("\ufffd" in piece for piece in pieces)


def test_a_character_comes_with_its_last_byte(tokenizer: Any) -> None:
    pieces, _ = _pieces(tokenizer, "日x")
    assert pieces == ["", "", "日", "x", ""]


def test_half_a_character_at_the_end_is_dropped(tokenizer: Any) -> None:
    stream = TextStream(tokenizer, (), ())
    assert [stream.push(token) for token in tokenizer.encode("x日", add_special_tokens=False)[:-1]] == ["x", "", ""]
    assert stream.finish() == ""


@given(before=st.text("abc", max_size=6), stop=st.text("abc", min_size=1, max_size=3), after=st.text("abc", max_size=4))
def test_the_text_ends_before_the_first_stop_string(tokenizer: Any, before: str, stop: str, after: str) -> None:
    text = before + stop + after
    pieces, stopped = _pieces(tokenizer, text, (stop,))
    assert stopped
    assert "".join(pieces) == text[: text.find(stop)]


def test_what_only_begins_like_a_stop_string_is_given_in_the_end(tokenizer: Any) -> None:
    pieces, stopped = _pieces(tokenizer, "x\n\ny\n", ("\n\n\n",))
    assert "".join(pieces) == "x\n\ny\n"
    assert not stopped


def test_an_answer_keeps_the_space_that_a_tokenizer_drops_at_the_start_of_a_text() -> None:
    words = Tokenizer(models.WordLevel({"▁a": 0, "▁b": 1, "?": 2}, unk_token="?"))
    words.decoder = decoders.Metaspace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words)
    stream = TextStream(tokenizer, [0], ())
    assert tokenizer.decode([1]) == "b"
    assert stream.push(1) == " b"


def test_a_tokens_own_text_has_its_space_and_the_names_of_special_tokens(tokenizer: Any) -> None:
    texts = TokenTexts(tokenizer)
    ids = [*tokenizer.convert_tokens_to_ids(["<s>", "Ġthe", "an"]), *tokenizer.encode("é", add_special_tokens=False)]
    assert [texts[token] for token in ids] == ["<s>", " the", "an", "\ufffd", "\ufffd"]


def test_a_tokens_own_text_keeps_a_space_that_the_tokenizer_drops_in_front() -> None:
    words = Tokenizer(models.WordLevel({"▁a": 0, "▁b": 1, "a": 2}, unk_token="a"))
    words.decoder = decoders.Metaspace()
    texts = TokenTexts(PreTrainedTokenizerFast(tokenizer_object=words))
    assert (texts[1], texts[2]) == (" b", "a")
