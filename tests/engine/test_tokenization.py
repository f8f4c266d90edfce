from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from ampsweep.domain.generation.prompt import ChatMessage, PromptOptions, ScoreText, Split, TokenIds
from ampsweep.errors import InvalidRequest, PromptTooLong, UnsupportedModel
from benchmarks.models.families import Family
from engine.base import ScoreRequest
from engine.tokenization import ScoredTokens, TextEncoder, encoded
from tests.engine.tokenizers import BOS, EOS, byte_level, sentence_piece, word_piece

CHAT = (ChatMessage(role="user", content="Who?"),)


def encoder_of(tokenizer: Any, *, rows: int = 1000) -> TextEncoder:
    return TextEncoder(tokenizer, embedding_rows=rows)


def scored(
    tokenizer: Any,
    context: Any,
    continuation: str,
    *,
    split: Split = "aligned",
    options: Sequence[ScoreText] = (),
    max_tokens: int = 100,
) -> ScoredTokens:
    request = ScoreRequest(context=context, continuation=continuation, split=split, options=tuple(options))
    return encoder_of(tokenizer).scored(request, max_tokens=max_tokens)


@pytest.fixture(params=["qwen2", "llama"])
def tokenizer(request: pytest.FixtureRequest, model_folder: Callable[[Family], Path]) -> Any:
    return AutoTokenizer.from_pretrained(model_folder(request.param))


@pytest.fixture
def plain(model_folder: Callable[[Family], Path]) -> Any:
    return AutoTokenizer.from_pretrained(model_folder("qwen2"))


def test_a_continuation_is_the_tokens_after_those_of_the_context(tokenizer: Any) -> None:
    for split in ("aligned", "lm_eval"):
        tokens = scored(tokenizer, "The end", " in the north", split=split)
        assert list(tokens.context) == tokenizer.encode("The end")
        assert list(tokens.context + tokens.continuation) == tokenizer.encode("The end in the north")
        assert tokenizer.decode(tokens.continuation) == " in the north"
        assert not tokens.spanned_join


@pytest.mark.parametrize("space", [" ", "   ", "\n"])
def test_white_space_at_the_end_of_a_context_moves(tokenizer: Any, space: str) -> None:
    moved = scored(tokenizer, f"The end{space}", "in the north")
    assert moved == scored(tokenizer, "The end", f"{space}in the north")


def test_a_token_across_the_join_is_scored_as_in_lm_eval(plain: Any) -> None:
    tokens = scored(plain, "The t", "he end", split="lm_eval")
    whole = plain.encode("The the end")
    assert plain.encode("The t") != whole[: len(plain.encode("The t"))]
    assert list(tokens.context) == plain.encode("The t")
    assert list(tokens.continuation) == whole[len(tokens.context) :]
    assert tokens.spanned_join


def test_a_context_is_backed_off_to_the_token_border_before_a_spanned_join(plain: Any) -> None:
    tokens = scored(plain, "The t", "he end")
    assert plain.decode(tokens.context) == "The"
    assert plain.decode(tokens.continuation) == " the end"
    assert list(tokens.context + tokens.continuation) == plain.encode("The the end")
    assert tokens.spanned_join


def test_the_options_of_an_item_are_scored_from_one_border() -> None:
    tokenizer = byte_level("ab", "abc")
    options = [("xab", "c"), ("xab", "y")]
    spanned, other = (scored(tokenizer, *option, options=options) for option in options)
    assert tokenizer.decode(spanned.context) == tokenizer.decode(other.context) == "x"
    assert tokenizer.decode(spanned.continuation) == "abc"
    assert tokenizer.decode(other.continuation) == "aby"
    assert (spanned.spanned_join, other.spanned_join) == (True, False)
    single = scored(tokenizer, "xab", "y", options=[("xab", "y"), ("xab", "z")])
    assert tokenizer.decode(single.continuation) == "y"


def test_options_in_the_context_are_scored_whole_if_a_token_spans_the_join_of_one() -> None:
    tokenizer = byte_level("母", "は", "母は", "娘")
    options = [("x母", "は。"), ("x娘", "は。")]
    texts = [scored(tokenizer, *option, options=options) for option in options]
    assert [tokenizer.decode(text.context) for text in texts] == ["x", "x"]
    assert [tokenizer.decode(text.continuation) for text in texts] == ["母は。", "娘は。"]
    for option in options:
        by_lm_eval = scored(tokenizer, *option, split="lm_eval", options=options)
        assert tokenizer.decode(by_lm_eval.context) == option[0]


def test_a_first_token_across_the_join_is_scored_after_bos() -> None:
    tokens = scored(byte_level("th"), "t", "h")
    assert tokens.context == (BOS,)
    assert byte_level("th").decode(tokens.continuation) == "th"
    behind_bos = scored(byte_level("th", template="<s> $A"), "t", "h")
    assert (behind_bos.context, behind_bos.continuation) == (tokens.context, tokens.continuation)
    with pytest.raises(InvalidRequest, match="adds no token"):
        scored(byte_level("th"), "t", "h", split="lm_eval")


def test_a_chat_that_ends_with_a_space_is_backed_off_before_it() -> None:
    tokenizer = byte_level(" A")
    tokenizer.chat_template = "{% for message in messages %}{{ message.content }}{% endfor %} Assistant: "
    tokens = scored(tokenizer, CHAT, "A")
    assert tokenizer.decode(tokens.context) == "Who? Assistant:"
    assert tokenizer.decode(tokens.continuation) == " A"
    by_lm_eval = scored(tokenizer, CHAT, "B", split="lm_eval")
    assert tokenizer.decode(by_lm_eval.context) == "Who? Assistant:"
    assert tokenizer.decode(by_lm_eval.continuation) == " B"
    assert tokenizer.decode(scored(tokenizer, CHAT, "B").continuation) == "B"


@pytest.mark.parametrize("context", ["", "  "])
def test_an_empty_context_is_the_bos_token(tokenizer: Any, context: str) -> None:
    tokens = scored(tokenizer, context, "north")
    assert tokens.context == (BOS,)
    assert list(tokens.continuation) == tokenizer.encode(context + "north", add_special_tokens=False)


def test_without_bos_an_empty_context_is_eos_and_without_both_rejected(plain: Any) -> None:
    plain.bos_token = None
    assert scored(plain, "", "north").context == (EOS,)
    assert encoder_of(plain).prompt("", max_tokens=100) == (EOS,)
    plain.eos_token = None
    with pytest.raises(InvalidRequest, match="no BOS or EOS"):
        scored(plain, "", "north")


def test_a_continuation_without_tokens_is_rejected(plain: Any) -> None:
    for context, continuation in (("The end", ""), ("", "")):
        with pytest.raises(InvalidRequest) as caught:
            scored(plain, context, continuation)
        assert caught.value.param == "continuation"


def test_text_that_is_too_long_is_rejected_with_its_field(plain: Any) -> None:
    length, encoder = len(plain.encode("The end in")), encoder_of(plain)
    assert len(encoder.prompt("The end in", max_tokens=length)) == length
    with pytest.raises(
        InvalidRequest, match=f"{length} tokens, but this engine accepts at most {length - 1}"
    ) as caught:
        encoder.prompt("The end in", max_tokens=length - 1)
    assert caught.value.param == "prompt"
    scored(plain, "The end", " in", max_tokens=length)
    with pytest.raises(InvalidRequest) as caught:
        scored(plain, "The end", " in", max_tokens=length - 1)
    assert caught.value.param == "context"


def test_a_sentence_is_counted_without_its_special_tokens(tokenizer: Any) -> None:
    tokens = encoder_of(tokenizer).sentence("The end", max_tokens=100)
    assert list(tokens.ids) == tokenizer.encode("The end")
    assert list(tokens.ids[tokens.special :]) == tokenizer.encode("The end", add_special_tokens=False)
    assert tokens.counted == len(tokenizer.encode("The end", add_special_tokens=False))
    assert encoder_of(tokenizer).sentence("The end", max_tokens=2).ids == tokens.ids[:2]


@pytest.mark.parametrize(("characters_a_token", "characters"), [(32, 320), (1, 17_000)])
def test_only_the_start_of_a_very_long_sentence_is_tokenized(
    plain: Any, characters_a_token: int, characters: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless its tokens are so long that the start has too few."""
    monkeypatch.setattr("engine.tokenization._TOKEN_CHARACTERS", characters_a_token)
    text = "the end in north " * 1000
    expected, tokenized = tuple(plain.encode(text)[:10]), list[str]()
    encode = plain.encode

    def observed(part: str, **options: Any) -> list[int]:
        tokenized.append(part)
        return list(encode(part, **options))

    monkeypatch.setattr(plain, "encode", observed)
    assert encoder_of(plain).sentence(text, max_tokens=10).ids == expected
    assert max(map(len, tokenized)) == characters


@pytest.mark.parametrize(
    ("tokenizer", "leading", "trailing"),
    [
        (byte_level("th", template="$A </s>"), [], [EOS]),
        (byte_level("th", template="<s> $A </s>"), [BOS], [EOS]),
        (byte_level("th", template="<s> $A"), [BOS], []),
        (word_piece(), [0], [1]),
        (sentence_piece(), [], [EOS]),
    ],
    ids=["eos", "bos-eos", "bos", "bert", "t5"],
)
def test_special_tokens_after_a_text_are_never_used(tokenizer: Any, leading: list[int], trailing: list[int]) -> None:
    encoder, bare = encoder_of(tokenizer), tokenizer.encode("the end", add_special_tokens=False)
    assert tokenizer.encode("the end") == [*leading, *bare, *trailing]
    assert list(encoder.prompt("the end", max_tokens=100)) == [*leading, *bare]
    sentence = encoder.sentence("the end", max_tokens=100)
    assert (list(sentence.ids), sentence.special) == ([*leading, *bare], len(leading))
    tokens = scored(tokenizer, "the", " end")
    assert list(tokens.context + tokens.continuation) == [*leading, *bare]
    assert list(tokens.context) == [*leading, *tokenizer.encode("the", add_special_tokens=False)]
    first = scored(tokenizer, "", "the end")
    assert len(first.context) == 1
    assert list(first.continuation) == bare


def test_a_text_that_begins_with_bos_gets_no_second_one() -> None:
    tokenizer = byte_level(template="<s> $A")
    encoder = encoder_of(tokenizer)
    bare = tokenizer.encode("north", add_special_tokens=False)
    assert list(encoder.prompt("<s>north", max_tokens=100)) == [BOS, *bare]
    assert list(encoder.sentence("<s>north", max_tokens=100).ids) == [BOS, *bare]
    assert encoder.sentence("<s>north", max_tokens=100).counted == len(bare)
    for context, continuation in (("<s>nor", "th"), ("<s>", "north"), ("", "<s>north")):
        tokens = scored(tokenizer, context, continuation)
        assert list(tokens.context + tokens.continuation) == [BOS, *bare]


def test_a_token_without_an_embedding_row_is_rejected_with_its_field(caplog: pytest.LogCaptureFixture) -> None:
    tokenizer = byte_level()
    rows = len(tokenizer)
    tokenizer.add_tokens(["<ja>"])
    with caplog.at_level(logging.WARNING):
        encoder = encoder_of(tokenizer, rows=rows)
    assert f"'<ja>': {rows}" in caplog.text

    def score(context: str, continuation: str) -> ScoredTokens:
        return encoder.scored(ScoreRequest(context=context, continuation=continuation), max_tokens=100)

    for param, call in (
        ("prompt", lambda: encoder.prompt("<ja> Japan", max_tokens=100)),
        ("context", lambda: score("<ja> Japan", " is")),
        ("continuation", lambda: score("Japan", " <ja>")),
        ("corpus", lambda: encoder.sentence("Japan <ja>", max_tokens=100)),
    ):
        with pytest.raises(InvalidRequest, match=rf"'<ja>' \(id {rows}\).* {rows} rows.*resize") as caught:
            call()
        assert caught.value.param == param
    assert score("Japan", " is")


def test_a_padded_embedding_causes_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        encoder_of(byte_level(), rows=5000)
    assert not caplog.text


def test_a_tokenizer_without_tokens_is_rejected() -> None:
    empty = Tokenizer(models.BPE(vocab={}, merges=[]))
    with pytest.raises(UnsupportedModel, match="every text as no tokens"):
        encoder_of(PreTrainedTokenizerFast(tokenizer_object=empty))


def test_token_ids_are_used_unchanged_if_the_model_has_them(plain: Any) -> None:
    encoder = encoder_of(plain, rows=200)
    assert encoder.prompt(TokenIds((97, 98, 3)), max_tokens=3) == (97, 98, 3)
    with pytest.raises(PromptTooLong):
        encoder.prompt(TokenIds((97, 98, 3)), max_tokens=2)
    with pytest.raises(InvalidRequest, match="has 200 rows") as caught:
        encoder.prompt(TokenIds((97, 200)), max_tokens=3)
    assert caught.value.param == "prompt"


def test_a_prompt_of_any_length_becomes_tokens_and_text_again() -> None:
    tokenizer = byte_level(template="<s> $A")
    encoder = encoder_of(tokenizer, rows=len(tokenizer))
    plain = tuple(tokenizer.encode("né", add_special_tokens=False))
    added = PromptOptions(add_special_tokens=True)
    assert encoder.tokens("né", options=PromptOptions(add_special_tokens=False)) == plain
    assert encoder.tokens("né") == encoder.tokens("né", options=added) == (BOS, *plain)
    assert encoder.tokens("<s>né") == (BOS, *plain), "not a second time"
    assert encoder.tokens("") == (BOS,)
    assert encoder.tokens(TokenIds((3, 4)), options=added) == (3, 4)
    assert encoder.token_strs((BOS, *plain)) == ("<s>", "n", "Ã", "©")
    assert encoder.text((BOS, *plain)) == "<s>né"
    with pytest.raises(InvalidRequest, match=f"none with the id {len(tokenizer)}") as refused:
        encoder.text((0, len(tokenizer)))
    assert refused.value.param == "tokens.1"


def test_a_chat_becomes_tokens_with_or_without_the_start_of_the_answer() -> None:
    tokenizer = byte_level(template="<s> $A")
    tokenizer.chat_template = "{{ messages[0].content }}{% if add_generation_prompt %}>{% endif %}"
    encoder = encoder_of(tokenizer)
    question, answer = (tuple(tokenizer.encode(text, add_special_tokens=False)) for text in ("Who?", ">"))
    assert encoder.tokens(CHAT) == question + answer
    unanswered = PromptOptions(add_special_tokens=True, add_generation_prompt=False)
    assert encoder.tokens(CHAT, options=unanswered) == (BOS, *question)
    for options, ids in ((PromptOptions(), question + answer), (unanswered, (BOS, *question))):
        assert encoder.prompt(CHAT, max_tokens=100, options=options) == ids


def test_a_long_prompt_is_truncated_as_by_its_tokenizer() -> None:
    """VLLM's server truncates so, with a tokenizer whose side is the left one."""
    tokenizer = byte_level(template="<s> $A")
    encoder, text = encoder_of(tokenizer), "abcdefgh"
    tokenizer.truncation_side = "left"
    for count in (2, 3, 8, 9, 20):
        expected = tokenizer(text, truncation=True, max_length=count)["input_ids"]
        assert encoder.prompt(text, max_tokens=20, options=PromptOptions(truncate_prompt_tokens=count)) == tuple(
            expected
        )
    whole = tuple(tokenizer.encode(text))
    left = PromptOptions(truncate_prompt_tokens=4, truncation_side="left")
    right = PromptOptions(truncate_prompt_tokens=4, truncation_side="right")
    assert encoder.prompt(text, max_tokens=20, options=left) == whole[-4:]
    assert encoder.prompt(text, max_tokens=20, options=right) == whole[:4]
    longest = PromptOptions(truncate_prompt_tokens=-1)
    assert encoder.prompt(text, max_tokens=5, options=longest) == (BOS, *whole[-4:])
    assert encoder.prompt(TokenIds(whole), max_tokens=5, options=longest) == whole[-5:], "nothing was added in front"
    assert encoder.prompt(text, max_tokens=5, options=PromptOptions(truncate_prompt_tokens=1)) == whole[-1:]
    with pytest.raises(
        InvalidRequest, match="truncate_prompt_tokens is 6, but this engine accepts prompts of at most 5"
    ):
        encoder.prompt(text, max_tokens=5, options=PromptOptions(truncate_prompt_tokens=6))


@pytest.mark.parametrize(
    ("text", "tools", "elsewhere"), [("a", (), False), ("a" * 100_000, (), True), (CHAT, ({"type": "function"},), True)]
)
def test_long_texts_and_chats_with_tools_are_tokenized_in_a_thread(text: Any, tools: Any, elsewhere: bool) -> None:
    thread = asyncio.run(encoded(text, threading.current_thread, tools=tools))
    assert (thread is not threading.current_thread()) == elsewhere
