from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from ampsweep.errors import InvalidRequest
from engine.tokens import encode_prompt, encode_sentence, split_scored
from tests.models import Family

BOS, EOS = 0, 1


@pytest.fixture(params=["qwen2", "llama"])
def tokenizer(request: pytest.FixtureRequest, model_folder: Callable[[Family], Path]) -> Any:
    return AutoTokenizer.from_pretrained(model_folder(request.param))


@pytest.fixture
def plain(model_folder: Callable[[Family], Path]) -> Any:
    return AutoTokenizer.from_pretrained(model_folder("qwen2"))


def test_a_continuation_is_what_follows_the_contexts_tokens(tokenizer: Any) -> None:
    tokens = split_scored(tokenizer, "The end", " in the north", max_tokens=100)
    assert list(tokens.context) == tokenizer.encode("The end")
    assert list(tokens.context + tokens.continuation) == tokenizer.encode("The end in the north")
    assert tokenizer.decode(tokens.continuation) == " in the north"


@pytest.mark.parametrize("space", [" ", "   ", "\n"])
def test_white_space_at_the_end_of_a_context_moves(tokenizer: Any, space: str) -> None:
    moved = split_scored(tokenizer, f"The end{space}", "in the north", max_tokens=100)
    assert moved == split_scored(tokenizer, "The end", f"{space}in the north", max_tokens=100)


def test_a_token_across_the_border_counts_as_lm_eval_counts_it(plain: Any) -> None:
    tokens = split_scored(plain, "The t", "he end", max_tokens=100)
    whole = plain.encode("The the end")
    assert plain.encode("The t") != whole[: len(plain.encode("The t"))]
    assert list(tokens.context) == plain.encode("The t")
    assert list(tokens.continuation) == whole[len(tokens.context) :]


@pytest.mark.parametrize("context", ["", "  "])
def test_an_empty_context_is_the_first_token_of_a_text(tokenizer: Any, context: str) -> None:
    tokens = split_scored(tokenizer, context, "north", max_tokens=100)
    assert tokens.context == (BOS,)
    assert list(tokens.continuation) == tokenizer.encode(context + "north", add_special_tokens=False)


def test_without_bos_an_empty_context_is_eos_and_without_both_refused(plain: Any) -> None:
    plain.bos_token = None
    assert split_scored(plain, "", "north", max_tokens=100).context == (EOS,)
    assert encode_prompt(plain, "", max_tokens=100) == (EOS,)
    plain.eos_token = None
    with pytest.raises(InvalidRequest, match="no BOS or EOS"):
        split_scored(plain, "", "north", max_tokens=100)


def test_a_continuation_without_tokens_is_refused(plain: Any) -> None:
    for context, continuation in (("The end", ""), ("t", "h")):
        with pytest.raises(InvalidRequest) as caught:
            split_scored(plain, context, continuation, max_tokens=100)
        assert caught.value.param == "continuation"


def test_what_is_too_long_is_refused_by_its_field(plain: Any) -> None:
    length = len(plain.encode("The end in"))
    assert len(encode_prompt(plain, "The end in", max_tokens=length)) == length
    with pytest.raises(InvalidRequest, match=f"{length} tokens; this engine takes {length - 1}") as caught:
        encode_prompt(plain, "The end in", max_tokens=length - 1)
    assert caught.value.param == "prompt"
    split_scored(plain, "The end", " in", max_tokens=length)
    with pytest.raises(InvalidRequest) as caught:
        split_scored(plain, "The end", " in", max_tokens=length - 1)
    assert caught.value.param == "context"


def test_a_sentence_is_counted_without_its_special_tokens(tokenizer: Any) -> None:
    tokens = encode_sentence(tokenizer, "The end", max_tokens=100)
    assert list(tokens.ids) == tokenizer.encode("The end")
    assert list(tokens.ids[tokens.special :]) == tokenizer.encode("The end", add_special_tokens=False)
    assert tokens.counted == len(tokenizer.encode("The end", add_special_tokens=False))
    assert encode_sentence(tokenizer, "The end", max_tokens=2).ids == tokens.ids[:2]
