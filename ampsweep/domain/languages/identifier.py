"""The protocol of language identifiers. Knows no library."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Identification:
    """The most probable language of a text.

    Attributes:
        language: Its code as `ampsweep.domain.languages.codes.short_code` returns it; None if the text has no letters
            to judge by.
        confidence: The identifier's probability for it, from 0 to 1. Different identifiers are not comparable.
    """

    language: str | None
    confidence: float


UNKNOWN = Identification(language=None, confidence=0.0)


class LanguageIdentifier(Protocol):
    """Identifies the language of one text at a time, deterministically and without network access."""

    @property
    def identity(self) -> str:
        """The library or model with its version or hash; two identifiers with one identity give the same answers."""

    @property
    def languages(self) -> frozenset[str]:
        """The codes of all languages that it can return."""

    def identify(self, text: str) -> Identification:
        """Return the language of a text; line breaks count as spaces.

        A fastText model names a language even for a text without letters; where that matters, see `has_letters`.
        """


def has_letters(text: str) -> bool:
    """Return whether a text has a letter of any script; a text of digits, marks or emoji is in no language."""
    return any(map(str.isalpha, text))
