"""Decodes a growing sequence of tokens, exactly as if all of them were decoded anew at each token.

The text of a token can depend on the tokens around it. Some decoders drop the space before the first word. The bytes of
a character may be spread over several tokens. Decoders with byte fallback take adjacent byte tokens (`<0x0A>`)
together, and replace all of them if together they are not UTF-8.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from engine.tokenizer import Decoder

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
"""What a decoder writes for bytes that are no character."""
CONTEXT = 5
"""Prompt tokens to decode with the answer, because some tokenizers drop the space before the first word."""
CHARACTER_BYTES = 4
"""Most bytes of a character in UTF-8."""
BROKEN_TOKENS = 8
"""Tokens that are decoded to see whether a text ends with bytes that are no character."""
_BYTE = re.compile("<0x[0-9A-Fa-f]{2}>")
_CONTINUES = re.compile("<0x[89ABab][0-9A-Fa-f]>")
"""Byte tokens that do not begin a character."""
_WRITTEN_REPLACEMENTS = (REPLACEMENT, "\u00ef\u00bf\u00bd", "<0xEF><0xBF><0xBD>")
"""How vocabularies write the character U+FFFD itself: as it is, as bytes in the alphabet of GPT-2, as byte tokens."""

Decode = Callable[[list[int]], str]
"""Returns the text of some tokens."""


class PromptEnd(NamedTuple):
    """The last tokens of a prompt.

    Attributes:
        context: The tokens that are decoded with the answer, to find where its text begins.
        unfinished: The tokens after them, whose text ends within a character. The character that the answer completes
            is part of the answer.
    """

    context: list[int]
    unfinished: list[int]

    @classmethod
    def of(cls, prompt: Sequence[int], tokenizer: Decoder, decode: Decode) -> PromptEnd:
        """Return the end of a prompt; `decode` decodes with the answer's options."""
        whole = _context(prompt, tokenizer)
        if not decode(whole).endswith(REPLACEMENT) or _is_written(whole, tokenizer):
            return cls(whole, [])
        for border in range(len(prompt) - 1, max(-1, len(prompt) - CHARACTER_BYTES), -1):
            context = _context(prompt[:border], tokenizer)
            if not decode(context).endswith(REPLACEMENT):
                return cls(context, list(prompt[border:]))
        return cls(whole, [])  # broken bytes that no token can complete


def _context(ids: Sequence[int], tokenizer: Decoder) -> list[int]:
    """Return the last tokens, from the start of a character: one that is cut would break the bytes after it."""
    start = max(0, len(ids) - CONTEXT)
    earliest = max(0, start - CHARACTER_BYTES + 1)
    names = tokenizer.convert_ids_to_tokens(list(ids[earliest : start + 1]))
    while start > earliest and _CONTINUES.fullmatch(names[start - earliest] or ""):
        start -= 1
    return list(ids[start:])


def _is_written(ids: Sequence[int], tokenizer: Decoder) -> bool:
    """Return whether the last tokens spell U+FFFD itself, rather than an unfinished character."""
    names = tokenizer.convert_ids_to_tokens(list(ids[-CHARACTER_BYTES:]))
    return "".join(name or "" for name in names).endswith(_WRITTEN_REPLACEMENTS)


def ends_with_broken_bytes(ids: Sequence[int], decode: Decode) -> bool:
    """Return whether the last tokens are bytes without any character, too many for the next one to complete.

    A model that is steered too strongly may generate hundreds of such bytes. They need not all be decoded again with
    each further one.
    """
    if len(ids) <= BROKEN_TOKENS:
        return False
    text = decode(list(ids[-BROKEN_TOKENS:]))
    return len(text) >= CHARACTER_BYTES and not text.strip(REPLACEMENT)


class IncrementalDecoder:
    """The text of one answer, of which only the last tokens are decoded with each new one.

    These are the tokens after the last border. At a border the text ends with a whole character, and the token before
    it is not a byte token. Further tokens then cannot change the text before the border, and their own text depends on
    no more than the tokens between the last two borders, which are their context. An answer without borders, such as a
    long run of byte tokens, is decoded from its beginning.

    Attributes:
        text: The text of all tokens so far. Bytes at its end that are no whole character may be missing, or be
            replacement characters.
        settled: How many characters of the text further tokens cannot change.
    """

    def __init__(self, tokenizer: Decoder, prompt: Sequence[int], *, skip_special_tokens: bool) -> None:
        """Begin after the tokens of `prompt`. `skip_special_tokens` says whether the text leaves out special tokens."""
        self._tokenizer = tokenizer
        self._skip = skip_special_tokens
        # The tokens before the last border, and those after it.
        self._context, self._pending = PromptEnd.of(prompt, tokenizer, self._decode)
        self._decoded = self._decode(self._context + self._pending)
        self._context_length = len(self._decode(self._context))
        self._before = ""  # the text before `_pending`
        self.text = ""

    @property
    def settled(self) -> int:
        """See the class."""
        return len(self._before)

    def push(self, token: int) -> None:
        """Add the next token to the text."""
        self._pending.append(token)
        is_byte = self._is_byte(token)
        is_broken = self._decoded.endswith(REPLACEMENT)
        if not is_byte and is_broken and ends_with_broken_bytes(self._pending, self._decode):
            return
        decoded = self._decode(self._context + self._pending)
        new = decoded[self._context_length :]
        self.text = self._before + new
        if decoded and decoded == self._decoded and not self._decode([token, token]):
            self._pending.pop()  # it has no text: a special token that is skipped, or an id that does not exist
            return
        self._decoded = decoded
        if new and not is_byte and not new.endswith(REPLACEMENT):
            self._begin_after_border()

    def _begin_after_border(self) -> None:
        """Make the pending tokens the context of the next ones, unless they have no text of their own."""
        decoded = self._decode(self._pending)
        if decoded:
            self._context, self._pending = self._pending, []
            self._decoded, self._context_length = decoded, len(decoded)
            self._before = self.text

    def _is_byte(self, token: int) -> bool:
        (name,) = self._tokenizer.convert_ids_to_tokens([token])
        return name is not None and _BYTE.fullmatch(name) is not None

    def _decode(self, ids: list[int]) -> str:
        return self._tokenizer.decode(ids, skip_special_tokens=self._skip, clean_up_tokenization_spaces=False)
