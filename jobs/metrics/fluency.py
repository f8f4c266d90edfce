"""Fluency of generated text: its repetitiveness and its length."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from jobs.metrics.item_sums import compare_answers, evaluate_answers, has_several_answers
from jobs.metrics.mean import compare_means, evaluate_mean
from jobs.metrics.result import MetricResult
from jobs.statistics.bootstrap import Floats

NGRAM = 4
_UNSPACED = r"\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff"  # Thai, kana and Han, whose units are characters
_UNIT = re.compile(rf"[{_UNSPACED}]|[^\s{_UNSPACED}]+")


def repetition(text: str) -> float:
    """Return the share of 4-grams that repeat an earlier one, seq-rep-4 of Welleck et al. 2020 (arXiv 1908.04319).

    The units are words, or characters in scripts without spaces between words. 0 for a text of less than 4 units.
    """
    units = _UNIT.findall(text)
    grams = [tuple(units[start : start + NGRAM]) for start in range(len(units) - NGRAM + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


@dataclass(frozen=True, kw_only=True)
class Fluency:
    """The mean over items of the number that `of` computes from the value in `column`.

    `is_share` says whether the number is one from 0 to 1.
    """

    name: str
    column: str
    of: Callable[[Any], float]
    higher_is_better: bool | None
    is_share: bool = False
    no_effect: float | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that the metric reads."""
        return ("doc_id", self.column)

    def evaluate(self, samples: pa.Table, rng: np.random.Generator) -> MetricResult:
        """Return the mean."""
        if has_several_answers(samples):
            return evaluate_answers(self._values(samples), samples["doc_id"].to_pylist(), rng, is_share=self.is_share)
        return evaluate_mean(self._values(samples), rng, is_share=self.is_share)

    def compare(self, steered: pa.Table, baseline: pa.Table, rng: np.random.Generator) -> MetricResult:
        """Return the mean and its difference from the baseline's on the same items."""
        values, plain = self._values(steered), self._values(baseline)
        if has_several_answers(steered):
            return compare_answers(values, plain, steered["doc_id"].to_pylist(), rng, is_share=self.is_share)
        return compare_means(values, plain, rng, is_share=self.is_share)

    def _values(self, samples: pa.Table) -> Floats:
        return np.array([self.of(value) for value in samples[self.column].to_pylist()], dtype=np.float64)


REPETITION = Fluency(name="repetition", column="completion", of=repetition, higher_is_better=False, is_share=True)
LENGTH = Fluency(name="length", column="completion_tokens", of=float, higher_is_better=None)
