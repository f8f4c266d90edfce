"""Decodes a growing sequence of tokens, exactly as if all of them were decoded anew at each token.

The text of a token can depend on the tokens around it. Some decoders drop the space before the first word. The bytes of
a character may be spread over several tokens. Decoders with byte fallback take adjacent byte tokens (`<0x0A>`)
together, and replace all of them if together they are not UTF-8.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
"""What a decoder writes for bytes that are no character."""
CONTEXT = 5
"""Prompt tokens to decode with the answer, because some tokenizers drop the space before the first word."""
CHARACTER_BYTES = 4
"""Most bytes of a character in UTF-8."""
BROKEN_TOKENS = 8
"""Tokens that are decoded to see whether a text ends with bytes that are no character."""
_BYTE = re.compile("<0x[0-9A-Fa-f]{2}>")


class Decoder(Protocol):
    """The part of a Hugging Face tokenizer that decodes tokens."""

    def decode(self, ids: list[int], *, skip_special_tokens: bool, clean_up_tokenization_spaces: bool) -> str:
        """Return the text of some tokens."""
        ...

    def convert_ids_to_tokens(self, ids: list[int]) -> list[str | None]:
        """Return each token as the vocabulary writes it; None for an id that does not exist."""
        ...


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
        self._context = list(prompt[-CONTEXT:])  # the tokens before `_pending`
        self._pending: list[int] = []  # the tokens after the last border
        self._decoded = self._decode(self._context)  # the text of both
        self._context_length = len(self._decoded)
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
        if not is_byte and self._ends_with_broken_bytes():
            return
        decoded = self._decode(self._context + self._pending)
        if decoded and decoded == self._decoded and not self._decode([token, token]):
            self._pending.pop()  # it has no text: a special token that is skipped, or an id that does not exist
            return
        self._decoded = decoded
        new = decoded[self._context_length :]
        self.text = self._before + new
        if new and not is_byte and not new.endswith(REPLACEMENT):
            self._begin_after_border()

    def _begin_after_border(self) -> None:
        """Make the pending tokens the context of the next ones, unless they have no text of their own."""
        decoded = self._decode(self._pending)
        if decoded:
            self._context, self._pending = self._pending, []
            self._decoded, self._context_length = decoded, len(decoded)
            self._before = self.text

    def _ends_with_broken_bytes(self) -> bool:
        """Whether the text ended with broken bytes, and the new token neither completes them nor ends their row.

        A model that is steered too strongly may generate hundreds of such bytes. All of them need not be decoded again
        with each.
        """
        if len(self._pending) <= BROKEN_TOKENS or not self._decoded.endswith(REPLACEMENT):
            return False
        text = self._decode(self._pending[-BROKEN_TOKENS:])
        return len(text) >= CHARACTER_BYTES and not text.strip(REPLACEMENT)

    def _is_byte(self, token: int) -> bool:
        (name,) = self._tokenizer.convert_ids_to_tokens([token])
        return name is not None and _BYTE.fullmatch(name) is not None

    def _decode(self, ids: list[int]) -> str:
        return self._tokenizer.decode(ids, skip_special_tokens=self._skip, clean_up_tokenization_spaces=False)
