"""Accuracy: the share of correct predictions."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from jobs.metrics.result import MetricResult
from jobs.metrics.share import Truths, compare_shares, evaluate_share


class Accuracy:
    """The share of items whose `correct` is true. Comparisons use McNemar's exact and mid-p tests, and Cohen's g."""

    name = "accuracy"
    columns = ("correct",)
    higher_is_better = True
    no_effect = None

    def evaluate(self, samples: pa.Table, rng: np.random.Generator) -> MetricResult:
        """Return the share, between 0 and 1."""
        del rng
        return evaluate_share(_correct(samples))

    def compare(self, steered: pa.Table, baseline: pa.Table, rng: np.random.Generator) -> MetricResult:
        """Return the share and its difference from the baseline's on the same items."""
        return compare_shares(_correct(steered), _correct(baseline), rng)


def _correct(samples: pa.Table) -> Truths:
    values: Truths = samples["correct"].to_numpy().astype(bool)
    return values
