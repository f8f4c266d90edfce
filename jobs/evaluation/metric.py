"""Interface of the metrics over stored text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from jobs.evaluation.texts import StoredText
from jobs.metrics.bootstrap import bootstrap_mean
from jobs.metrics.result import FEW

Values = dict[str, Any]
"""The values of one group by name, as JSON shows them."""


@dataclass(frozen=True, slots=True)
class TextScore:
    """The score of one text.

    Attributes:
        value: The score; None where it is not defined or could not be had.
        detail: What the score rests on, such as the identified language; says why there is no value.
    """

    value: float | None
    detail: str | None = None


Scores = Mapping[str, Sequence[TextScore]]
"""Scores of texts, in their order, by the name of the score. A metric may give several (LPR and WPR)."""


class TextMetric(Protocol):
    """Scores texts one by one, and sums up the scores of a group.

    Example:
        The number of words in each text:

        >>> class Words:
        ...     name, identity, needs = "words", "str.split", frozenset()
        ...
        ...     async def score(self, texts):
        ...         return {"words": [TextScore(len(text.text.split())) for text in texts]}
        ...
        ...     def summarize(self, texts, scores, rng):
        ...         return mean_with_interval("words", scores["words"], rng)
    """

    @property
    def name(self) -> str:
        """The name on the command line and in requests."""
        ...

    @property
    def identity(self) -> str:
        """What computes the scores, with its version: the language identifier, or the model. Stored with each score."""
        ...

    @property
    def needs(self) -> frozenset[str]:
        """Which fields of a text it needs besides text and language: `input`, `reference`."""
        ...

    async def score(self, texts: Sequence[StoredText]) -> Scores:
        """Score each text. Runs long computations in a thread."""
        ...

    def summarize(self, texts: Sequence[StoredText], scores: Scores, rng: np.random.Generator) -> Values:
        """Return the values of a group, with a `note` where one rests on few texts.

        Args:
            texts: The texts of the group.
            scores: What `score` returned for them.
            rng: The source of the resamples behind the intervals.
        """
        ...


def mean_with_interval(name: str, scores: Sequence[TextScore], rng: np.random.Generator) -> Values:
    """Return the mean of the scores that are defined under `name`, and its 95 % interval under `<name>_ci`."""
    values = np.array([score.value for score in scores if score.value is not None], dtype=np.float64)
    if not len(values):
        return {name: None, f"{name}_ci": None}
    return {name: float(values.mean()), f"{name}_ci": list(bootstrap_mean(values, rng))}


def defined(scores: Sequence[TextScore]) -> int:
    """Return how many scores are defined."""
    return sum(score.value is not None for score in scores)


def note_on(count: int) -> str | None:
    """Return a note if too few texts have a score for a meaningful interval."""
    if not count:
        return "no text could be evaluated"
    return f"rests on {count} texts; at least {FEW} make an interval meaningful" if count < FEW else None
