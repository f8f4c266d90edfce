"""Decodes tokens to text: the text of a growing answer, and the text and the offset of each token.

The text of an answer never contains a broken character or part of a stop string. A model with a padded vocabulary can
sample ids that its tokenizer does not have; these have no text.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from ampsweep.domain.generation.chunk import PromptPart, TokenLogprob
from engine.incremental_decoder import REPLACEMENT, IncrementalDecoder, PromptEnd, ends_with_broken_bytes
from engine.tokenizer import Decoder, Tokenizer


class StopMatch(NamedTuple):
    """Where a stop string begins and ends in a text, in characters."""

    start: int
    end: int


def first_stop(text: str, stop: Sequence[str], *, after: int = 0) -> StopMatch | None:
    """Return the stop string that is complete first, or None if there is none. Empty strings are ignored.

    Args:
        text: The text.
        stop: The stop strings. Of two that end at the same place, the first in this order is returned.
        after: Stop strings that end within so many characters do not count.
    """
    starts = ((text.find(string, max(0, after + 1 - len(string))), len(string)) for string in stop if string)
    matches = (StopMatch(start, start + length) for start, length in starts if start >= 0)
    return min(matches, key=operator.attrgetter("end"), default=None)


class TokenTexts:
    """The text of each token in the middle of a text, that is, with its leading space if it has one."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._before = self._ordinary_token()
        self._texts: dict[int, str] = {}
        self._lengths: dict[tuple[int, bool], int | None] = {}

    def __getitem__(self, token: int) -> str:
        """Return the text of a token: the name of a special token, U+FFFD for bytes that are not a whole character."""
        text = self._texts.get(token)
        if text is None:
            text = self._texts[token] = self._within(self._before, [token], skip_special_tokens=False)
        return text

    def length(self, token: int, *, skip_special_tokens: bool = True) -> int | None:
        """Return how many characters a token adds to a text: 0 if it is skipped, None if it is part of a character."""
        key = token, skip_special_tokens
        if key not in self._lengths:
            text = self.joined([token], self._before, skip_special_tokens=skip_special_tokens)
            self._lengths[key] = None if REPLACEMENT in text else len(text)
        return self._lengths[key]

    def joined(self, ids: list[int], before: list[int] | None = None, *, skip_special_tokens: bool = True) -> str:
        """Return the text of `ids`.

        Args:
            ids: Token ids.
            before: The tokens before them; None for any place in the middle of a text.
            skip_special_tokens: Whether the text leaves out special tokens.
        """
        return self._within(self._before if before is None else before, ids, skip_special_tokens=skip_special_tokens)

    def prompt_end(self, prompt: Sequence[int], *, skip_special_tokens: bool = True) -> PromptEnd:
        """Return the last tokens of the prompt of an answer; `skip_special_tokens` as in `joined`."""
        return PromptEnd.of(prompt, self._tokenizer, partial(self._decode, skip_special_tokens=skip_special_tokens))

    def _within(self, before: list[int], ids: list[int], *, skip_special_tokens: bool) -> str:
        start, whole = (self._decode(part, skip_special_tokens=skip_special_tokens) for part in (before, before + ids))
        return whole[len(start) :]

    def _decode(self, ids: list[int], *, skip_special_tokens: bool) -> str:
        return self._tokenizer.decode(ids, skip_special_tokens=skip_special_tokens, clean_up_tokenization_spaces=False)

    def _ordinary_token(self) -> list[int]:
        """Return a list of one token that has a text, so that a token after it keeps its leading space."""
        for text in ("a", "1", "\u3042", *self._tokenizer.get_vocab()):
            ids = self._tokenizer.encode(text, add_special_tokens=False)[-1:]
            if ids and self.joined(ids, []).strip(REPLACEMENT):
                return ids
        return []


class TextOffsets:
    """The position, in characters, at which each token of one answer begins in the answer's text."""

    def __init__(self, texts: TokenTexts, prompt: Sequence[int], *, skip_special_tokens: bool = True) -> None:
        """Begin after the tokens of `prompt`. `skip_special_tokens` says whether the text leaves out special tokens."""
        self._texts = texts
        self._skip = skip_special_tokens
        # The last tokens, if they do not end with a whole character, and those before them; None: middle of a text.
        self._before: list[int] | None
        self._before, self._pending = texts.prompt_end(prompt, skip_special_tokens=skip_special_tokens)
        self._whole = 0  # characters before `_pending`
        self._unfinished = ""

    @property
    def unfinished(self) -> str:
        """The whole characters of the last tokens, if these end with part of a character."""
        return self._unfinished

    @property
    def length(self) -> int:
        """How many whole characters the answer has."""
        return self._whole + len(self._unfinished)

    def push(self, token: int) -> int:
        """Add the next token and return its position, which is after the whole characters of the tokens before it."""
        start = self.length
        is_known = not self._pending and self._before is None
        length = self._texts.length(token, skip_special_tokens=self._skip) if is_known else None
        if length is None:
            self._pending.append(token)
            if ends_with_broken_bytes(self._pending, self._joined):
                return start
            text = self._texts.joined(self._pending, self._before, skip_special_tokens=self._skip)
            if text.endswith(REPLACEMENT):
                self._unfinished = text.rstrip(REPLACEMENT)
                return start
            length = len(text)
        self._whole += length
        self._pending, self._unfinished = [], ""
        self._before = None if length else self._before
        return start

    def _joined(self, ids: list[int]) -> str:
        return self._texts.joined(ids, skip_special_tokens=self._skip)


def prompt_part(
    texts: TokenTexts,
    ids: Sequence[int],
    logprobs: Sequence[float | None],
    ranks: Sequence[int | None],
    top_logprobs: Sequence[tuple[TokenLogprob, ...]],
) -> PromptPart:
    """Return the tokens of a prompt with their texts and offsets.

    Args:
        texts: The texts of tokens.
        ids: The prompt.
        logprobs: One for each token, None for the first.
        ranks: One for each token, None for the first.
        top_logprobs: The likeliest tokens in the place of each.
    """
    offsets = TextOffsets(texts, ())
    starts = tuple(offsets.push(token) for token in ids)
    return PromptPart(
        text=texts.joined(list(ids), []),
        token_ids=tuple(ids),
        token_texts=tuple(texts[token] for token in ids),
        text_offsets=starts,
        logprobs=tuple(logprobs),
        ranks=tuple(ranks),
        top_logprobs=tuple(top_logprobs),
    )


class TextStream:
    """The text of one answer, token by token.

    Bytes at the end that do not form a whole character are held back, and dropped if the answer ends with them. Text
    that may be the beginning of a stop string is held back too, unless the answer may include the stop string.

    Attributes:
        stopped: Whether a stop string has ended the answer.
    """

    def __init__(
        self,
        tokenizer: Decoder,
        prompt: Sequence[int],
        stop: Sequence[str],
        *,
        include_stop: bool = False,
        min_tokens: int = 0,
        skip_special_tokens: bool = True,
    ) -> None:
        """Begin after the tokens of `prompt`.

        Args:
            tokenizer: Decodes the tokens.
            prompt: The tokens before the answer.
            stop: The answer ends before the first of these strings.
            include_stop: Whether it ends after the string instead.
            min_tokens: Stop strings within so many tokens do not end the answer.
            skip_special_tokens: Whether the text leaves out special tokens.
        """
        self._decoder = IncrementalDecoder(tokenizer, prompt, skip_special_tokens=skip_special_tokens)
        self._stop = [text for text in stop if text]
        self._include_stop = include_stop
        self._min_tokens = min_tokens
        self._unchecked = 0  # characters of the first `min_tokens` tokens
        self._tokens = 0
        self._text = ""
        self._returned = 0  # characters
        self._read = 0  # characters
        self.stopped = False

    def push(self, token: int) -> str:
        """Add the next token and return the text that is now final. Set `stopped` at a stop string."""
        checked = self._decoder.settled
        self._decoder.push(token)
        self._tokens += 1
        self._text = self._decoder.text.rstrip(REPLACEMENT)
        if self._tokens <= self._min_tokens:
            self._unchecked = len(self._text)
        match = first_stop(self._text, self._stop, after=max(self._unchecked, checked))
        if match is not None:
            self.stopped = True
            self._text = self._text[: match.end if self._include_stop else match.start]
            return self.finish()
        return self._advance(len(self._text) - self._held_back())

    def finish(self) -> str:
        """Return the text that was held back, without broken characters."""
        return self._advance(len(self._text))

    def read(self) -> str:
        """Return the whole characters since the last call, with those that `push` holds back for a stop string."""
        new = self._text[self._read :]
        self._read = max(self._read, len(self._text))
        return new

    def _held_back(self) -> int:
        """Return the length of the longest suffix of the text that is a prefix of a stop string."""
        if self._include_stop:
            return 0
        longest = max(map(len, self._stop), default=0)
        lengths = range(min(longest - 1, len(self._text)), 0, -1)
        return next((n for n in lengths if any(stop.startswith(self._text[-n:]) for stop in self._stop)), 0)

    def _advance(self, end: int) -> str:
        """Return the text up to `end` that has not been returned yet."""
        new = self._text[self._returned : end]
        self._returned = max(self._returned, end)
        return new
