"""Steering by the language of the running text: when it is switched, and which tokens have been steered."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from ampsweep.domain.drift import Drift
from ampsweep.domain.generation.chunk import Span
from ampsweep.domain.languages.codes import without_region
from ampsweep.domain.languages.identifier import LanguageIdentifier, has_letters


class SwitchHistory:
    """The tokens at which the steering of an answer was switched; it is off before the first of them.

    One thread may append to a history while others read what concerns earlier tokens.
    """

    def __init__(self) -> None:
        self._switches: list[int] = []

    @property
    def on(self) -> bool:
        """Whether the tokens after the last switch are steered."""
        return len(self._switches) % 2 == 1

    @property
    def since(self) -> int:
        """The token of the last switch; 0 if there was none."""
        return self._switches[-1] if self._switches else 0

    def switch(self, token: int) -> None:
        """Switch steering on, or off again, from a token on. No earlier switch is at a later token."""
        assert token >= self.since
        self._switches.append(token)

    def steered(self, first: int, count: int) -> NDArray[np.bool_]:
        """Return whether each of `count` tokens from `first` on is steered, bool [count]."""
        tokens = np.arange(first, first + count)
        odd: NDArray[np.bool_] = (
            np.searchsorted(np.array(self._switches, dtype=np.int64), tokens, side="right") % 2 == 1
        )
        return odd

    def spans(self, first: int, end: int) -> tuple[Span, ...]:
        """Return the steered ones of the tokens from `first` to before `end`, as spans in ascending order."""
        edges = [*self._switches[: bisect_right(self._switches, end)], end]
        spans = zip(edges[::2], edges[1::2], strict=False)
        return tuple((max(first, start), stop) for start, stop in spans if max(first, start) < stop)


class DriftSwitch:
    """Decides from the running text of one answer whether its next tokens are steered; see `Drift`.

    Attributes:
        on: The last decision.
    """

    def __init__(self, drift: Drift, targets: Collection[str], identifier: LanguageIdentifier) -> None:
        """Begin with an empty text.

        Args:
            drift: The settings.
            targets: Codes of the languages that the text should be in.
            identifier: Identifies the language of the end of the text.
        """
        self._drift = drift
        self._targets = frozenset(map(without_region, targets))
        self._identifier = identifier
        self._end = ""  # the last characters
        self._characters = 0
        self._due = drift.min_characters
        self._agreeing = 0  # decisions in a row for switching
        self.on = False

    def read(self, text: str) -> bool:
        """Add new text of the answer; return whether it switches steering, on or off."""
        drift = self._drift
        self._characters += len(text)
        self._end = (self._end + text)[-drift.window :]
        if self._characters < self._due:
            return False
        self._due = self._characters + drift.every
        drifted = self._has_drifted()
        if drifted is None:
            return False
        self._agreeing = 0 if drifted == self.on else self._agreeing + 1
        if self._agreeing < (drift.switch_off if self.on else drift.switch_on):
            return False
        self.on, self._agreeing = not self.on, 0
        return True

    def _has_drifted(self) -> bool | None:
        """Return whether the end of the text is in another language than the targets; None if that is unclear."""
        if not has_letters(self._end):
            return None
        identified = self._identifier.identify(self._end)
        if identified.language is None or identified.confidence < self._drift.confidence:
            return None
        return identified.language not in self._targets
