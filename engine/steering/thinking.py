"""Steering by the part of the text of a reasoning model: what it thinks, or the rest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from ampsweep.domain.drift import Part
from ampsweep.domain.text_parts import HARMONY, has_harmony, thinking_pair


class PartTracker(Protocol):
    """Follows the parts of one text, token by token.

    Attributes:
        part: The part that the next token belongs to; None if it belongs to neither.
    """

    part: Part | None

    def read(self, token: int) -> None:
        """Add the next token."""


@dataclass(frozen=True, kw_only=True)
class ThinkingMarkers:
    """The ids of the tokens before and after the thinking part.

    The thinking part is what follows the start marker up to and including the end marker. A chat template may write the
    start marker into the prompt, or both if the model is not to think.
    """

    start: int
    end: int

    @classmethod
    def of(cls, vocabulary: Mapping[str, int]) -> ThinkingMarkers | None:
        """Return the markers of a vocabulary; None if it does not have both as single tokens."""
        if (pair := thinking_pair(vocabulary)) is None:
            return None
        start, end = pair
        return cls(start=vocabulary[start], end=vocabulary[end])

    def tracker(self) -> PartTracker:
        """Return what follows the parts of a new text."""
        return _MarkerTracker(self)


class _MarkerTracker:
    def __init__(self, markers: ThinkingMarkers) -> None:
        self.part: Part | None = "answer"
        self._parts: Mapping[int, Part] = {markers.start: "thinking", markers.end: "answer"}

    def read(self, token: int) -> None:
        self.part = self._parts.get(token, self.part)


@dataclass(frozen=True, kw_only=True)
class HarmonyMarkers:
    """The ids of the tokens that divide a text in harmony into messages, and of the names of channels.

    A message is `<|start|>`, the role, `<|channel|>`, the channel and `<|message|>`, followed by the content and
    `<|end|>` (https://github.com/openai/harmony). The part of a channel is the content of its messages up to and
    including the end. Headers, messages of other channels and those without one belong to neither part. A text without
    messages is an answer.
    """

    start: int
    channel: int
    message: int
    end: int
    parts: tuple[tuple[int, Part], ...]

    @classmethod
    def of(cls, vocabulary: Mapping[str, int]) -> HarmonyMarkers | None:
        """Return the markers of a vocabulary; None if it does not have all of them as single tokens."""
        if not has_harmony(vocabulary):
            return None
        start, channel, message, end, analysis, final = (vocabulary[token] for token in HARMONY)
        parts: tuple[tuple[int, Part], ...] = ((analysis, "thinking"), (final, "answer"))
        return cls(start=start, channel=channel, message=message, end=end, parts=parts)

    def tracker(self) -> PartTracker:
        """Return what follows the parts of a new text."""
        return _HarmonyTracker(self)


class _HarmonyTracker:
    def __init__(self, markers: HarmonyMarkers) -> None:
        self.part: Part | None = "answer"
        self._markers = markers
        self._parts = dict(markers.parts)
        self._channel: Part | None = None  # of the message whose header is read
        self._is_name = False  # of a channel: the next token

    def read(self, token: int) -> None:
        markers = self._markers
        if self._is_name:
            self._channel = self._parts.get(token)
        elif token == markers.message:
            self.part = self._channel
        elif token in (markers.start, markers.channel, markers.end):
            self.part = self._channel = None
        self._is_name = token == markers.channel


Markers = ThinkingMarkers | HarmonyMarkers
"""How a model marks the parts of its text."""


def markers_of(vocabulary: Mapping[str, int]) -> Markers | None:
    """Return how a model with this vocabulary marks the parts of its text; None if it has no known way."""
    return ThinkingMarkers.of(vocabulary) or HarmonyMarkers.of(vocabulary)


class PartSwitch:
    """Says whether the next tokens of an answer belong to a part of it."""

    def __init__(self, part: Part, markers: Markers, prompt: Sequence[int]) -> None:
        """Begin after the tokens of `prompt`."""
        self._part = part
        self._tracker = markers.tracker()
        self.read(prompt)

    @property
    def on(self) -> bool:
        """Whether the next token belongs to the part."""
        return self._tracker.part == self._part

    def read(self, tokens: Iterable[int]) -> None:
        """Add the next tokens."""
        for token in tokens:
            self._tracker.read(token)
