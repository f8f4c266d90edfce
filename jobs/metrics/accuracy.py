"""The share of right predictions as a metric."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from jobs.metrics.bootstrap import bootstrap_mean
from jobs.metrics.significance import cohens_g, mcnemar, mcnemar_mid
from jobs.metrics.verdict import Verdict


class Accuracy:
    """The share of items whose `correct` is true; paired with McNemar's test, exact and mid-p, and Cohen's g."""

    name = "accuracy"
    columns = ("correct",)

    def alone(self, samples: pa.Table, rng: np.random.Generator) -> Verdict:
        """Return the share, between 0 and 1."""
        if not len(samples):
            return Verdict(n=0)
        correct = _correct(samples).astype(np.float64)
        low, high = bootstrap_mean(correct, rng)
        return Verdict(n=len(correct), value=float(correct.mean()), ci_low=low, ci_high=high)

    def against(self, steered: pa.Table, baseline: pa.Table, rng: np.random.Generator) -> Verdict:
        """Return the share, and its difference to the baseline's over the same items."""
        own = self.alone(steered, rng)
        if not own.n:
            return own
        right, plain = _correct(steered), _correct(baseline)
        low, high = bootstrap_mean(right.astype(np.float64) - plain.astype(np.float64), rng)
        return replace(
            own,
            baseline=float(plain.mean()),
            delta=float(right.mean() - plain.mean()),
            p_value=mcnemar(right, plain),
            p_mid=mcnemar_mid(right, plain),
            delta_ci_low=low,
            delta_ci_high=high,
            effect=cohens_g(right, plain),
        )


def _correct(samples: pa.Table) -> NDArray[np.bool_]:
    values: NDArray[np.bool_] = samples["correct"].to_numpy().astype(bool)
    return values
