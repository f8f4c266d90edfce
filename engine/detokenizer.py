"""Text from tokens: of a growing list, never a broken character, nothing of a stop string; and of each one alone.

An id above the tokenizer's tokens, which a model with a padded vocabulary can draw, has no text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_CONTEXT = 5  # prompt tokens decoded along: some tokenizers drop the space of the first word they decode


class Decoder(Protocol):
    """What is needed of a Hugging Face tokenizer."""

    def decode(self, ids: list[int], *, skip_special_tokens: bool, clean_up_tokenization_spaces: bool) -> str:
        """Return the text of some tokens."""
        ...


class Coder(Decoder, Protocol):
    """A decoder that encodes, too."""

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        """Return the ids of a text."""
        ...

    def get_vocab(self) -> Mapping[str, int]:
        """Return the id of each token."""
        ...


def first_stop(text: str, stop: Sequence[str]) -> int | None:
    """Return where the first stop string in a text begins, None where there is none."""
    return min((at for at in (text.find(string) for string in stop if string) if at >= 0), default=None)


class TokenTexts:
    """The text of each token as it stands within a text: with its space in front, if it has one."""

    def __init__(self, tokenizer: Coder) -> None:
        self._tokenizer = tokenizer
        self._before = self._ordinary_token()
        self._known: dict[int, str] = {}
        self._lengths: dict[int, int | None] = {}

    def __getitem__(self, token: int) -> str:
        """Return a token's text; a special token's name, U+FFFD for bytes that are no character."""
        text = self._known.get(token)
        if text is None:
            text = self._known[token] = self._within(self._before, [token], skip_special_tokens=False)
        return text

    def length(self, token: int) -> int | None:
        """Return how many characters a token adds to a text, a special one none; None for a part of a character."""
        if token not in self._lengths:
            text = self.joined([token], self._before)
            self._lengths[token] = None if _REPLACEMENT in text else len(text)
        return self._lengths[token]

    def joined(self, ids: list[int], before: list[int] | None = None) -> str:
        """Return the text of some tokens behind those of `before` (None: within a text), without special ones."""
        return self._within(self._before if before is None else before, ids, skip_special_tokens=True)

    def _within(self, before: list[int], ids: list[int], *, skip_special_tokens: bool) -> str:
        start, whole = (
            self._tokenizer.decode(part, skip_special_tokens=skip_special_tokens, clean_up_tokenization_spaces=False)
            for part in (before, before + ids)
        )
        return whole[len(start) :]

    def _ordinary_token(self) -> list[int]:
        """Return a token, in a list, that has a text of its own: what stands behind it keeps its space in front."""
        for text in ("a", "1", "\u3042", *self._tokenizer.get_vocab()):
            ids = self._tokenizer.encode(text, add_special_tokens=False)[-1:]
            if ids and self.joined(ids, []).strip(_REPLACEMENT):
                return ids
        return []


class TextOffsets:
    """Where each token of one answer begins in the answer's text, in characters."""

    def __init__(self, texts: TokenTexts, prompt: Sequence[int]) -> None:
        """Begin after the tokens of `prompt`."""
        self._texts = texts
        self._before: list[int] | None = list(prompt[-_CONTEXT:])  # of the pending tokens; None: within a text
        self._whole = 0  # characters up to the first token of `_pending`
        self._pending: list[int] = []  # the last tokens, where they do not end with a whole character

    @property
    def unfinished(self) -> str:
        """The whole characters of tokens at the end, the last of which ends within a character."""
        if not self._pending:
            return ""
        return self._texts.joined(self._pending, self._before).rstrip(_REPLACEMENT)

    @property
    def length(self) -> int:
        """How many whole characters the answer has."""
        return self._whole + len(self.unfinished)

    def push(self, token: int) -> int:
        """Take the next token and return where it begins: behind the whole characters of those before it."""
        start = self.length
        length = None if self._pending or self._before is not None else self._texts.length(token)
        if length is None:
            self._pending.append(token)
            text = self._texts.joined(self._pending, self._before)
            length = None if text.endswith(_REPLACEMENT) else len(text)
        if length is not None:
            self._whole += length
            self._pending = []
            self._before = None if length else self._before
        return start


class TextStream:
    """The text of one answer as its tokens come.

    Bytes at the end that are no whole character yet are held back (and dropped, if the answer ends with them), and so
    is text that may turn out to begin a stop string.
    """

    def __init__(self, tokenizer: Decoder, prompt: Sequence[int], stop: Sequence[str]) -> None:
        """Begin after the tokens of `prompt`; end at the first of the texts of `stop`."""
        self._tokenizer = tokenizer
        self._before = list(prompt[-_CONTEXT:])
        self._skipped = len(self._decode([]))
        self._stop = [text for text in stop if text]
        self._ids: list[int] = []
        self._text = ""
        self._given = 0
        self.stopped = False

    def push(self, token: int) -> str:
        """Take one more token and return the text that is now certain; sets `stopped` at a stop string."""
        self._ids.append(token)
        self._text = self._decode(self._ids)[self._skipped :].rstrip(_REPLACEMENT)
        end = first_stop(self._text, self._stop)
        if end is not None:
            self.stopped = True
            self._text = self._text[:end]
            return self.finish()
        return self._give(len(self._text) - self._held())

    def finish(self) -> str:
        """Return what was held back, without broken characters."""
        return self._give(len(self._text))

    def _held(self) -> int:
        """Return the length of the longest end of the text that a stop string begins with."""
        longest = max(map(len, self._stop), default=0)
        lengths = range(min(longest - 1, len(self._text)), 0, -1)
        return next((n for n in lengths if any(stop.startswith(self._text[-n:]) for stop in self._stop)), 0)

    def _give(self, until: int) -> str:
        new = self._text[self._given : until]
        self._given = max(self._given, until)
        return new

    def _decode(self, ids: list[int]) -> str:
        return self._tokenizer.decode(self._before + ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
