"""Interface of the metrics over stored text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from jobs.evaluation.texts import StoredText
from jobs.metrics.item_sums import evaluate_answers
from jobs.metrics.result import FEW, MetricResult
from jobs.statistics.bootstrap import bootstrap_mean
from jobs.statistics.wilson import share_interval

Values = dict[str, Any]
"""The values of one group by name, as JSON shows them."""


@dataclass(frozen=True, slots=True)
class TextScore:
    """The score of one text.

    Attributes:
        value: The score; None where it is undefined or could not be computed.
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
        ...         return mean_with_interval("words", texts, scores["words"], rng)
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


def mean_with_interval(
    name: str,
    texts: Sequence[StoredText],
    scores: Sequence[TextScore],
    rng: np.random.Generator,
    *,
    is_share: bool = False,
) -> Values:
    """Return the mean of the scores that are defined under `name`, and its 95 % interval under `<name>_ci`.

    The interval resamples texts; where texts are several answers to one prompt, it resamples prompts. With `is_share`,
    for scores from 0 to 1, it is Wilson's where the scores of independent texts are all 0 or 1, and where all texts
    have 0 or all have 1. It is None where every resample has the same value, because the texts are alike.
    """
    pairs = [(text, score.value) for text, score in zip(texts, scores, strict=True) if score.value is not None]
    if not pairs:
        return {name: None, f"{name}_ci": None}
    values = np.array([value for _, value in pairs], dtype=np.float64)
    if not _have_several_answers([text for text, _ in pairs]):
        bounds = share_interval(values, rng) if is_share else bootstrap_mean(values, rng)
        result = MetricResult(n=len(values), value=float(values.mean()), ci_low=bounds[0], ci_high=bounds[1])
    else:
        result = evaluate_answers(values, [text.item for text, _ in pairs], rng, is_share=is_share)
    result = result.without_points()
    return {name: result.value, f"{name}_ci": None if result.ci_low is None else [result.ci_low, result.ci_high]}


def defined(scores: Sequence[TextScore]) -> int:
    """Return how many scores are defined."""
    return sum(score.value is not None for score in scores)


def note_on(texts: Sequence[StoredText], *columns: Sequence[TextScore]) -> str | None:
    """Return a note if one of several scores of texts is defined for too few of them for a meaningful interval.

    Where texts are several answers to one prompt, prompts count, as in `mean_with_interval`. A score that is undefined
    for all texts has no interval and does not count.
    """
    counts = []
    for column in columns:
        scored = [text for text, score in zip(texts, column, strict=True) if score.value is not None]
        if scored:
            counts.append(len({text.item for text in scored}) if _have_several_answers(scored) else len(scored))
    if not counts:
        return "no text could be evaluated"
    what = "prompts" if _have_several_answers(texts) else "texts"
    return f"rests on {min(counts)} {what}; at least {FEW} make an interval meaningful" if min(counts) < FEW else None


def _have_several_answers(texts: Sequence[StoredText]) -> bool:
    return any(text.key.get("answer") is not None for text in texts)
