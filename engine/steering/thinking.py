"""Steering by the part of the text of a reasoning model: what it thinks, or the rest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ampsweep.domain.drift import Part

PAIRS = (("<think>", "</think>"), ("[THINK]", "[/THINK]"), ("<seed:think>", "</seed:think>"))
"""The tokens before and after the thinking part, as vocabularies write them."""


@dataclass(frozen=True, kw_only=True)
class ThinkingMarkers:
    """The ids of the tokens before and after the thinking part."""

    start: int
    end: int

    @classmethod
    def of(cls, vocabulary: Mapping[str, int]) -> ThinkingMarkers | None:
        """Return the markers of a vocabulary; None if it does not have both as single tokens."""
        for start, end in PAIRS:
            if start in vocabulary and end in vocabulary:
                return cls(start=vocabulary[start], end=vocabulary[end])
        return None


class PartSwitch:
    """Says whether the next tokens of an answer belong to a part of it.

    The thinking part is what follows the start marker up to and including the end marker. A chat template may write the
    start marker into the prompt, or both if the model is not to think.
    """

    def __init__(self, part: Part, markers: ThinkingMarkers, prompt: Sequence[int]) -> None:
        """Begin after the tokens of `prompt`."""
        self._part = part
        self._markers = markers
        self._thinking = False
        self.read(prompt)

    @property
    def on(self) -> bool:
        """Whether the next token belongs to the part."""
        return self._thinking == (self._part == "thinking")

    def read(self, tokens: Iterable[int]) -> None:
        """Add the next tokens."""
        for token in tokens:
            if token in (self._markers.start, self._markers.end):
                self._thinking = token == self._markers.start
