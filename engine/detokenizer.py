"""Text from tokens: of a growing list, never a broken character, nothing of a stop string; and of each one alone."""

from __future__ import annotations

from collections.abc import Sequence
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


class TokenTexts:
    """The text of each token as it stands within a text: with its space in front, if it has one."""

    def __init__(self, tokenizer: Coder) -> None:
        self._tokenizer = tokenizer
        self._before = tokenizer.encode("a", add_special_tokens=False)[-1:]
        self._skipped = len(self._decode([]))
        self._known: dict[int, str] = {}

    def __getitem__(self, token: int) -> str:
        """Return a token's text; a special token's name, U+FFFD for bytes that are no character."""
        text = self._known.get(token)
        if text is None:
            text = self._known[token] = self._decode([token])[self._skipped :]
        return text

    def _decode(self, ids: list[int]) -> str:
        return self._tokenizer.decode(self._before + ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)


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
        ends = [at for at in (self._text.find(text) for text in self._stop) if at >= 0]
        if ends:
            self.stopped = True
            self._text = self._text[: min(ends)]
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
