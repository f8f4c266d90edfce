from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache, partial
from itertools import accumulate
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from engine.detokenizer import TextOffsets, TextStream, TokenTexts
from engine.incremental_decoder import IncrementalDecoder, PromptEnd
from tests.engine.tokenizers import byte_level, sentence_piece, with_byte_fallback, word_piece

SCRIPTS = (
    "ภาษาไทยไม่เว้นวรรค",
    "اللُّغَةُ العَرَبِيَّة",
    "हिन्दी क्षत्रिय",
    "தமிழ்நாடு",
    "👩‍👩‍👧‍👦🏳️‍🌈👍🏽",
    "e\N{COMBINING ACUTE ACCENT}a\N{COMBINING DIAERESIS}",
    "한국어 日本語\n\nLa fin.",
)


def words_and_bytes() -> Any:
    """Return a tokenizer like Llama 2's, with markers for spaces, and a few words beside the bytes."""
    pieces = ["<s>", "</s>", "<unk>", "▁", "▁the", "a", "ภ", *(f"<0x{byte:02X}>" for byte in range(256))]
    model = models.BPE(vocab={piece: index for index, piece in enumerate(pieces)}, merges=[], byte_fallback=True)
    tokenizer = Tokenizer(model)
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", left=1)]
    tokenizer.decoder = decoders.Sequence(steps)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")


def ends_of_words() -> Any:
    """Return a tokenizer whose tokens have a space after them, unless they are the last of a text."""
    pieces = ["<s>", "</s>", "the</w>", "end</w>", "a", "b"]
    tokenizer = Tokenizer(models.BPE(vocab={piece: index for index, piece in enumerate(pieces)}, merges=[]))
    tokenizer.decoder = decoders.BPEDecoder(suffix="</w>")
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")


def halves_of_characters() -> Any:
    """Return a byte-level tokenizer with tokens that end within a character."""
    return byte_level("大", "大" + "日"[:1], "ภา", "a 👩")


MAKERS = (words_and_bytes, with_byte_fallback, halves_of_characters, sentence_piece, word_piece, ends_of_words)
made = cache(lambda maker: maker())


class WholeText:
    """The text of one answer, all of whose tokens are decoded at each token."""

    def __init__(self, tokenizer: Any, prompt: list[int], *, skip_special_tokens: bool) -> None:
        options = {"skip_special_tokens": skip_special_tokens, "clean_up_tokenization_spaces": False}
        self._decode: Callable[[list[int]], str] = partial(tokenizer.decode, **options)
        self._before, self._ids = PromptEnd.of(prompt, tokenizer, self._decode)

    def push(self, token: int) -> str:
        self._ids.append(token)
        before, whole = self._decode(self._before), self._decode(self._before + self._ids)
        return whole[len(before) :].rstrip("\ufffd")


def bytes_of(tokenizer: Any, text: str) -> list[int]:
    """Return the tokens of a text's bytes, by the name that the vocabulary has for a byte."""
    names = [f"<0x{byte:02X}>" for byte in text.encode()]
    vocabulary = tokenizer.get_vocab()
    if names[0] in vocabulary:
        return [vocabulary[name] for name in names]
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False)
    return ids


@cache  # Hypothesis would validate a new strategy with each example
def drawn_ids(tokenizer: Any) -> st.SearchStrategy[list[int]]:
    """Return lists of tokens: any of the vocabulary, ids that it does not have, specials, and texts of many scripts."""
    token = st.integers(0, len(tokenizer) + 1).map(lambda number: [number])
    special = st.sampled_from([[0], [1], [0] * 3, [len(tokenizer) + 5] * 3])
    text = st.sampled_from(SCRIPTS).map(lambda text: bytes_of(tokenizer, text))
    part = st.builds(lambda ids, start, end: ids[start:end], text, st.integers(0, 9), st.integers(5, 60))
    return st.lists(token | special | part, max_size=8).map(lambda parts: [one for ids in parts for one in ids])


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize("skip", [True, False])
@given(data=st.data())
def test_the_text_is_that_of_all_tokens_decoded_at_each(maker: Callable[[], Any], skip: bool, data: Any) -> None:
    tokenizer = made(maker)
    prompt, ids = data.draw(drawn_ids(tokenizer)), data.draw(drawn_ids(tokenizer))
    decoder = IncrementalDecoder(tokenizer, prompt, skip_special_tokens=skip)
    whole = WholeText(tokenizer, prompt, skip_special_tokens=skip)
    settled = ""
    for token in ids:
        decoder.push(token)
        text = whole.push(token)
        assert decoder.text.rstrip("\ufffd") == text
        assert text.startswith(settled)
        settled = text[: decoder.settled]


def test_a_skipped_token_after_a_prompt_that_ends_within_a_character_shows_what_was_finished() -> None:
    tokenizer = made(halves_of_characters)
    half = next(token for token in tokenizer.get_vocab().values() if tokenizer.decode([token]) == "大\ufffd")
    decoder = IncrementalDecoder(tokenizer, [half], skip_special_tokens=True)
    decoder.push(tokenizer.all_special_ids[0])
    assert decoder.text.rstrip("\ufffd") == "大"


@pytest.mark.parametrize("maker", [halves_of_characters, words_and_bytes, with_byte_fallback])
@given(text=st.sampled_from(["大日本大日", *SCRIPTS]), cut=st.integers(0, 60))
def test_an_answer_continues_a_prompt_that_ends_anywhere_as_one_stream_of_tokens_does(
    maker: Callable[[], Any], text: str, cut: int
) -> None:
    tokenizer = made(maker)
    ids = bytes_of(tokenizer, text)
    prompt, answer = ids[:cut], ids[cut:]
    reference, backend = decoders.DecodeStream(ids=[], skip_special_tokens=True), tokenizer.backend_tokenizer
    for token in prompt:
        reference.step(backend, token)
    expected = [reference.step(backend, token) or "" for token in answer]
    stream, offsets = TextStream(tokenizer, prompt, ()), TextOffsets(TokenTexts(tokenizer), prompt)
    assert [stream.push(token) for token in answer] == expected
    starts = [0, *accumulate(map(len, expected))]
    assert [offsets.push(token) for token in answer] == starts[:-1]


def test_the_first_token_of_an_answer_completes_the_last_character_of_its_prompt() -> None:
    tokenizer = made(with_byte_fallback)
    first, second, third = bytes_of(tokenizer, "あ")
    (a,) = tokenizer.encode("a", add_special_tokens=False)
    stream, offsets = (
        TextStream(tokenizer, [a, first, second], ()),
        TextOffsets(TokenTexts(tokenizer), [a, first, second]),
    )
    assert [stream.push(token) for token in (third, a)] == ["あ", "a"]
    assert [offsets.push(token) for token in (third, a)] == [0, 1]


@pytest.mark.parametrize("text", SCRIPTS)
@pytest.mark.parametrize("maker", [halves_of_characters, words_and_bytes])
def test_joined_characters_come_as_they_are(maker: Callable[[], Any], text: str) -> None:
    tokenizer = made(maker)
    ids = bytes_of(tokenizer, text)
    stream = TextStream(tokenizer, tokenizer.encode("a", add_special_tokens=False), ())
    assert "".join([*(stream.push(token) for token in ids), stream.finish()]) == text


def expected_pieces(texts: list[str], stop: tuple[str, ...], *, min_tokens: int) -> Iterator[str]:
    """Yield what an answer returns at each token, given its text at each: the rule of `TextStream`, character-wise."""
    returned, unchecked, longest = 0, 0, max(map(len, stop), default=0)
    for count, text in enumerate(texts, start=1):
        unchecked = len(text) if count <= min_tokens else unchecked
        ends = [
            (end, order, end - len(string))
            for order, string in enumerate(stop)
            for end in range(unchecked + 1, len(text) + 1)
            if text[:end].endswith(string)
        ]
        if ends:
            yield text[returned : min(ends)[2]]
            return
        prefixes = (n for n in range(longest) if any(string.startswith(text[len(text) - n :]) for string in stop))
        held = max((n for n in prefixes if n <= len(text)), default=0)
        yield text[returned : len(text) - held]
        returned = max(returned, len(text) - held)


@pytest.mark.parametrize("maker", MAKERS)
@given(
    data=st.data(),
    stop=st.lists(st.sampled_from(["the", " e", "\n", "ภา", "ง", "日", "\u200d", "a\ufffd"]), max_size=3),
    min_tokens=st.integers(0, 4),
)
def test_an_answer_stops_where_it_would_if_all_of_it_were_searched_at_each_token(
    maker: Callable[[], Any], data: Any, stop: list[str], min_tokens: int
) -> None:
    tokenizer = made(maker)
    ids = data.draw(drawn_ids(tokenizer))
    stream = TextStream(tokenizer, [0], tuple(stop), min_tokens=min_tokens)
    pieces = []
    for token in ids:
        pieces.append(stream.push(token))
        if stream.stopped:
            break
    whole = WholeText(tokenizer, [0], skip_special_tokens=True)
    expected = list(expected_pieces([whole.push(token) for token in ids], tuple(stop), min_tokens=min_tokens))
    assert pieces == expected


class Counting:
    """A tokenizer that counts the tokens that it decodes."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.convert_ids_to_tokens = tokenizer.convert_ids_to_tokens
        self.decoded = 0

    def decode(self, ids: list[int], **options: bool) -> str:
        self.decoded += len(ids)
        text: str = self._tokenizer.decode(ids, **options)
        return text


@pytest.mark.parametrize(
    ("maker", "part"),
    [
        (halves_of_characters, "ภาษาไทย👩‍👩‍👧‍👦 a大"),
        (halves_of_characters, ["ÿ"]),
        (halves_of_characters, ["a", "</s>"]),
        (words_and_bytes, ["▁", "▁the", "a"]),
        (words_and_bytes, ["▁the", "<0xE3>", "<0x81>", "<0x82>", "a"]),
        (sentence_piece, ["</s>"]),
        (word_piece, ["the", "##s"]),
        (ends_of_words, ["the</w>", "a", "b"]),
    ],
)
def test_only_the_last_tokens_are_decoded_with_each(maker: Callable[[], Any], part: list[str] | str) -> None:
    tokenizer = made(maker)
    ids = bytes_of(tokenizer, part) if isinstance(part, str) else tokenizer.convert_tokens_to_ids(part)
    counting = Counting(tokenizer)
    decoder = IncrementalDecoder(counting, [4], skip_special_tokens=True)
    for token in ids * 200:
        decoder.push(token)
    assert counting.decoded <= 30 * len(ids) * 200
