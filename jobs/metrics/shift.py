"""The language-steering shift as a metric."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from jobs.metrics.result import MetricResult
from jobs.metrics.share import evaluate_share


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
        del rng
        return evaluate_share(steered["score"].to_numpy() > baseline["score"].to_numpy())
