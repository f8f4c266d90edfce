from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from ampsweep.domain.generation.sampling import SamplingParams
from benchmarks.models.families import Family
from engine.detokenizer import TextOffsets, TextStream, TokenTexts, first_stop
from engine.vllm.requests.conversion import AnswerReader
from tests.engine.tokenizers import EOS, byte_level, name_of, sentence_piece, with_byte_fallback


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
@example(text="a < s> b")
def test_the_pieces_add_up_to_the_text_without_broken_characters(tokenizer: Any, text: str) -> None:
    assume(not any(token in text for token in tokenizer.all_special_tokens))  # they are left out, see below
    pieces, _ = _pieces(tokenizer, text)
    assert "".join(pieces) == text
    assert not any("\ufffd" in piece for piece in pieces)


def test_special_tokens_are_left_out(tokenizer: Any) -> None:
    pieces, _ = _pieces(tokenizer, "a<s>b")
    assert "".join(pieces) == "ab"


def test_special_tokens_are_part_of_the_text_if_they_are_not_skipped(tokenizer: Any) -> None:
    """Each token begins where its text does."""
    prompt, ids = tokenizer.encode("Before"), tokenizer.encode("a<s></s> b", add_special_tokens=False)
    stream = TextStream(tokenizer, prompt, ("</s>",), skip_special_tokens=False)
    assert "".join(stream.push(token) for token in ids if not stream.stopped) == "a<s>"
    offsets = TextOffsets(TokenTexts(tokenizer), prompt, skip_special_tokens=False)
    assert [offsets.push(token) for token in ids] == [0, 1, 4, 8, 9]
    assert offsets.length == 10


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


def test_the_text_may_end_after_the_stop_string_instead(tokenizer: Any) -> None:
    stream = TextStream(tokenizer, (), ("bc",), include_stop=True)
    pieces = [stream.push(token) for token in tokenizer.encode("abcd", add_special_tokens=False) if not stream.stopped]
    assert "".join(pieces) == "abc"
    assert stream.stopped


def test_a_stop_string_within_the_first_tokens_does_not_count() -> None:
    letters = byte_level()
    a, b = letters.encode("ab", add_special_tokens=False)
    for min_tokens, ids, text in (
        (2, [a, b, a, b], "ab"),  # the second "ab" ends the answer, before itself
        (1, [a, b], ""),
        (4, [a, b, a, b], "abab"),
        (3, [a, b, a, b], "ab"),  # a stop string may begin within them
    ):
        stream = TextStream(letters, (), ("ab",), min_tokens=min_tokens)
        pieces = [stream.push(token) for token in ids if not stream.stopped]
        assert "".join([*pieces, stream.finish()]) == text
        assert stream.stopped == (text != "abab")


def test_the_stop_string_that_is_complete_first_counts() -> None:
    assert first_stop("abcd", ("bcd", "bc", "")) == (1, 3)
    assert first_stop("abcd", ("bc", "abc")) == (1, 3), "the first of two that end together"
    assert first_stop("abab", ("ab",), after=1) == (0, 2)
    assert first_stop("abab", ("ab",), after=2) == (2, 4)
    assert first_stop("abab", ("ab",), after=4) is None


def test_text_that_only_begins_like_a_stop_string_is_returned(tokenizer: Any) -> None:
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


def test_the_text_of_a_token_has_its_space_or_the_name_of_a_special_token(tokenizer: Any) -> None:
    texts = TokenTexts(tokenizer)
    ids = [*tokenizer.convert_tokens_to_ids(["<s>", "Ġthe", "an"]), *tokenizer.encode("é", add_special_tokens=False)]
    assert [texts[token] for token in ids] == ["<s>", " the", "an", "\ufffd", "\ufffd"]


def test_the_text_of_a_token_keeps_a_leading_space_that_the_tokenizer_drops() -> None:
    words = Tokenizer(models.WordLevel({"▁a": 0, "▁b": 1, "a": 2}, unk_token="a"))
    words.decoder = decoders.Metaspace()
    texts = TokenTexts(PreTrainedTokenizerFast(tokenizer_object=words))
    assert (texts[1], texts[2]) == (" b", "a")


def test_an_id_that_the_tokenizer_does_not_know_has_no_text() -> None:
    padded = sentence_piece()
    unknown = len(padded) + 7
    the, end = padded.encode("the end", add_special_tokens=False)
    assert TokenTexts(padded)[unknown] == ""
    stream = TextStream(padded, [the], ())
    assert [stream.push(token) for token in (unknown, end, unknown)] == ["", " end", ""]
    offsets = TextOffsets(TokenTexts(padded), [the])
    assert [offsets.push(token) for token in (unknown, end, unknown, the)] == [0, 0, 4, 4]


def test_the_first_token_of_a_text_may_lose_its_space() -> None:
    tokenizer = sentence_piece()
    the, end = tokenizer.encode("the end", add_special_tokens=False)
    for prompt, text, starts in (([EOS], "the end", [0, 3]), ([the], " the end", [0, 4])):
        stream, offsets = TextStream(tokenizer, prompt, ()), TextOffsets(TokenTexts(tokenizer), prompt)
        assert "".join(stream.push(token) for token in (the, end)) == text
        assert [offsets.push(token) for token in (the, end)] == starts


@given(text=st.text(st.characters(blacklist_categories=["Cs"]), max_size=20))
def test_a_token_begins_after_the_whole_characters_before_it(tokenizer: Any, text: str) -> None:
    offsets, ids = TextOffsets(TokenTexts(tokenizer), ()), tokenizer.encode(text, add_special_tokens=False)
    starts = [offsets.push(token) for token in ids]
    assert starts == [len(tokenizer.decode(ids[:count]).rstrip("\ufffd")) for count in range(len(ids))]
    assert offsets.length == len(text.rstrip("\ufffd"))
    assert (starts or [0])[0] == 0


BYTES = b"a\xe3\x81\x82\xf0\x9f\x98\x80\xff"


@pytest.mark.parametrize("made", [byte_level, with_byte_fallback])
@given(drawn=st.lists(st.one_of(st.sampled_from(BYTES), st.none()), max_size=60))
@example(drawn=[0xFF] * 30 + list("あ".encode()) + [0xFF] * 30)
@example(drawn=[0xF0] * 9 + list("\U0001f600".encode()) * 4)
@example(drawn=[0xFF] * 12 + [None] * 9 + list("あ".encode()))
def test_offsets_are_those_of_all_pending_tokens_decoded_at_each(
    made: Callable[[], Any], drawn: list[int | None]
) -> None:
    tokenizer = made()
    of_byte = {byte: tokenizer.convert_tokens_to_ids(name_of(byte, made)) for byte in BYTES}
    ids = [0 if byte is None else of_byte[byte] for byte in drawn]
    texts = TokenTexts(tokenizer)
    offsets = TextOffsets(texts, ())
    whole, pending, before = 0, list[int](), True  # whether no text precedes
    for token in ids:
        text = texts.joined(pending, [] if before else None)
        assert offsets.push(token) == whole + len(text.rstrip("\ufffd"))
        pending.append(token)
        text = texts.joined(pending, [] if before else None)
        if not text.endswith("\ufffd"):
            whole, pending, before = whole + len(text), [], before and not text
    assert offsets.unfinished == texts.joined(pending, [] if before else None).rstrip("\ufffd")


def test_a_long_run_of_broken_bytes_is_not_decoded_anew_with_each_token(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = byte_level()
    decode = tokenizer.decode
    decoded = 0

    def counted(ids: list[int], **options: bool) -> str:
        nonlocal decoded
        decoded += len(ids)
        text: str = decode(ids, **options)
        return text

    monkeypatch.setattr(tokenizer, "decode", counted)
    offsets = TextOffsets(TokenTexts(tokenizer), ())
    (letter, broken) = (tokenizer.convert_tokens_to_ids(name_of(byte, byte_level)) for byte in (ord("a"), 0xFF))
    decoded = 0
    assert [offsets.push(token) for token in [letter] + [broken] * 500 + [letter] * 2] == [0, *[1] * 501, 502]
    assert decoded < 503 * 30


def test_special_tokens_add_no_characters(tokenizer: Any) -> None:
    offsets = TextOffsets(TokenTexts(tokenizer), ())
    assert [offsets.push(token) for token in (0, *tokenizer.encode("an", add_special_tokens=False)[-1:], 1, 0)] == [
        0,
        0,
        2,
        2,
    ]


def test_a_token_with_a_character_and_part_of_the_next_adds_the_character() -> None:
    halves = byte_level("大", "大" + "日"[:1])
    token = halves.convert_tokens_to_ids("å¤§æ")
    assert TokenTexts(halves)[token] == "大\ufffd"
    stream = TextStream(halves, (), ())
    assert [stream.push(token), stream.finish()] == ["大", ""]
    offsets = TextOffsets(TokenTexts(halves), ())
    rest = halves.encode("日x", add_special_tokens=False)[1:]
    assert [offsets.push(next_token) for next_token in (token, *rest)] == [0, 1, 1, 2]


def test_an_answer_of_vllm_may_include_the_stop_string_or_token() -> None:
    halves = byte_level("大", "大" + "日"[:1])
    (x,) = halves.encode("x", add_special_tokens=False)
    half = halves.convert_tokens_to_ids("å¤§æ")

    def read(reason: str, stop_reason: int | None, text: str, **sampling: Any) -> tuple[str, list[int], str | None]:
        params = SamplingParams(include_stop_str_in_output=True, **sampling)
        reader = AnswerReader(params, TokenTexts(halves), index=0, prompt=())
        chunks = [reader.read(output) for output in (part(x, "x", None, None), part(half, text, reason, stop_reason))]
        offsets = [offset for chunk in chunks for offset in chunk.text_offsets]
        return "".join(chunk.text for chunk in chunks), offsets, chunks[-1].finish_reason

    assert read("length", None, "", stop=("大",)) == ("x大", [0, 1], "stop")
    assert read("length", None, "", stop=("大",), min_tokens=2) == ("x大", [0, 1], "length")
    assert read("stop", half, "", stop_token_ids=(half,)) == ("x大", [0, 1], "stop")


def part(token: int, text: str, reason: str | None, stop_reason: int | None) -> Any:
    logprobs = [{token: SimpleNamespace(logprob=-1.0, rank=1)}]
    fields = {"token_ids": [token], "text": text, "logprobs": logprobs}
    return SimpleNamespace(outputs=[SimpleNamespace(**fields, finish_reason=reason, stop_reason=stop_reason)])


class Answered:
    """An answer of vLLM, one token per step, with the text that vLLM decodes."""

    def __init__(self, tokenizer: Any, ids: list[int]) -> None:
        self._stream = decoders.DecodeStream(ids=[], skip_special_tokens=True)
        self._tokenizer = tokenizer._tokenizer
        self._ids = ids

    def outputs(self, reason: str) -> Iterator[Any]:
        for index, token in enumerate(self._ids):
            last = index + 1 == len(self._ids)
            ended = last and reason == "stop"
            part = SimpleNamespace(
                token_ids=[token],
                text="" if ended else self._stream.step(self._tokenizer, token) or "",
                logprobs=[{token: SimpleNamespace(logprob=-1.0, rank=1)}],
                finish_reason=reason if last else None,
                stop_reason=None,
            )
            yield SimpleNamespace(outputs=[part])


@pytest.mark.parametrize(
    ("reason", "stop", "text", "ends"),
    [
        ("length", (), "x大", "length"),
        ("stop", (), "x大", "stop"),
        ("length", ("大",), "x", "stop"),
        ("length", ("y",), "x大", "length"),
    ],
)
def test_an_answer_of_vllm_keeps_the_whole_character_of_its_last_token(
    reason: str, stop: tuple[str, ...], text: str, ends: str
) -> None:
    halves = byte_level("大", "大" + "日"[:1])
    ids = [*halves.encode("x", add_special_tokens=False), halves.convert_tokens_to_ids("å¤§æ")]
    ids += [EOS] if reason == "stop" else []
    reader = AnswerReader(SamplingParams(stop=stop), TokenTexts(halves), index=0, prompt=())
    chunks = [reader.read(output) for output in Answered(halves, ids).outputs(reason)]
    assert "".join(chunk.text for chunk in chunks) == text
    assert chunks[-1].finish_reason == ends
    assert [token for chunk in chunks for token in chunk.token_ids] == ids
    assert [offset for chunk in chunks for offset in chunk.text_offsets] == [0, 1, 2][: len(ids)]


def test_what_is_held_back_for_a_stop_string_is_read_at_once() -> None:
    letters: Any = byte_level()
    stream = TextStream(letters, (), ("abcd", "x"))
    pushed, read = [], []
    for token in letters.encode("zabe", add_special_tokens=False):
        pushed.append(stream.push(token))
        read.append(stream.read())
    assert (pushed, read) == (["z", "", "", "abe"], list("zabe"))
    assert stream.read() == ""
