"""Evaluates stored texts by several metrics: one score a text, and values by group."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from jobs.evaluation.language_metrics import check_languages, harmonic_mean
from jobs.evaluation.metric import Scores, TextMetric, Values
from jobs.evaluation.texts import StoredText

SEED = 0
"""Seed of the bootstrap behind the intervals (95 %) of a group."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The scores of texts.

    Attributes:
        texts: The texts.
        metrics: The metrics.
        scores: The scores of all texts by each metric, in the order of `metrics`.
    """

    texts: tuple[StoredText, ...]
    metrics: tuple[TextMetric, ...]
    scores: tuple[Scores, ...]

    @cached_property
    def groups(self) -> dict[tuple[Any, ...], Values]:
        """The values of each group, in the order in which the groups first occur.

        Where a group has both LFS and relevance, `steering_score` is their harmonic mean (CLaS-Bench).
        """
        groups: dict[tuple[Any, ...], list[int]] = {}
        for index, text in enumerate(self.texts):
            groups.setdefault(text.group, []).append(index)
        return {group: self._values(indices) for group, indices in groups.items()}

    def _values(self, indices: Sequence[int]) -> Values:
        texts = [self.texts[index] for index in indices]
        values: Values = {"n": len(texts)}
        notes: list[str] = []
        for metric, scores in zip(self.metrics, self.scores, strict=True):
            of_group = {name: [column[index] for index in indices] for name, column in scores.items()}
            summary = metric.summarize(texts, of_group, np.random.default_rng(SEED))
            if (note := summary.pop("note")) is not None and note not in notes:
                notes.append(note)
            values |= summary
        if (steering := _steering_score(values)) is not None:
            values["steering_score"] = steering
        return {**values, "note": "; ".join(notes) or None}


async def evaluate_texts(texts: Sequence[StoredText], metrics: Sequence[TextMetric]) -> Evaluation:
    """Score texts by each metric in turn, once all languages are known to those that identify languages.

    Raises:
        InvalidRequest: A metric cannot score one of the languages.
        Unavailable: A judge cannot be reached.
    """
    await asyncio.to_thread(check_languages, metrics, texts)  # before a judge or a model takes hours
    scores = [await metric.score(texts) for metric in metrics]
    return Evaluation(texts=tuple(texts), metrics=tuple(metrics), scores=tuple(scores))


def _steering_score(values: Mapping[str, Any]) -> float | None:
    lfs, relevance = values.get("lfs"), values.get("relevance")
    return None if lfs is None or relevance is None else harmonic_mean(lfs, relevance)
