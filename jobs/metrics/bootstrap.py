"""Intervals by resampling the items. Seeded by the caller, so the same samples give the same numbers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
LEVEL = 0.95

Floats = NDArray[np.float64]


def bootstrap_mean(values: Floats, rng: np.random.Generator) -> tuple[float, float]:
    """Return the percentile interval (95 %) of the mean of `values` [n], n > 0, over 2000 resamplings of the items.

    Drawing n items with replacement is drawing how often each distinct value comes: one multinomial draw a resample.
    """
    distinct, counts = np.unique(values, return_counts=True)
    drawn = rng.multinomial(len(values), counts / len(values), size=RESAMPLES)
    means = drawn @ distinct / len(values)
    return interval(means)


def interval(resampled: Floats) -> tuple[float, float]:
    """Return the bounds between which LEVEL of the resampled values lie."""
    low, high = np.quantile(resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
