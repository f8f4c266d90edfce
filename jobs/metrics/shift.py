"""The language-steering shift as a metric."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from jobs.metrics.bootstrap import bootstrap_mean
from jobs.metrics.result import MetricResult


class Shift:
    """The share of items whose `score` the intervention increases: LSS, if the score is d(T|L).

    An intervention without direction increases about half of the scores.
    """

    name = "lss"
    columns = ("score",)
    higher_is_better = True
    no_effect = 0.5

    def evaluate(self, samples: pa.Table, rng: np.random.Generator) -> None:
        """Undefined without a baseline; return None."""
        del samples, rng

    def compare(self, steered: pa.Table, baseline: pa.Table, rng: np.random.Generator) -> MetricResult:
        """Return the share, between 0 and 1."""
        if not len(steered):
            return MetricResult(n=0)
        shifted = (steered["score"].to_numpy() > baseline["score"].to_numpy()).astype(np.float64)
        low, high = bootstrap_mean(shifted, rng)
        return MetricResult(n=len(shifted), value=float(shifted.mean()), ci_low=low, ci_high=high)
