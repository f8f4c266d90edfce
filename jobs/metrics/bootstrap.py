"""Intervals by resampling the items. Seeded by the caller, so the same samples give the same numbers."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
LEVEL = 0.95
BATCH_VALUES = 4_000_000
"""Values drawn at once, of at most 8 bytes each: what limits the memory of resampling."""

Floats = NDArray[np.float64]


def bootstrap_mean(values: Floats, rng: np.random.Generator) -> tuple[float, float]:
    """Return the percentile interval (95 %) of the mean of `values` [n], n > 0, over 2000 resamplings of the items.

    Drawing n items with replacement is drawing how often each distinct value comes: one multinomial draw a resample.
    """
    distinct, counts = np.unique(values, return_counts=True)
    shares = counts / len(values)
    means = [
        rng.multinomial(len(values), shares, size=rows) @ distinct / len(values)
        for rows in batches(RESAMPLES, len(distinct))
    ]
    return interval(np.concatenate(means))


def batches(resamples: int, items: int) -> Iterator[int]:
    """Yield how many resamples of so many items to draw at once, so that they take at most `BATCH_VALUES` values.

    Each batch but the last is a multiple of 8, so that the batches draw the same random numbers as one large draw.
    """
    most = max(8, BATCH_VALUES // max(1, items) // 8 * 8)
    for start in range(0, resamples, most):
        yield min(most, resamples - start)


def interval(resampled: Floats) -> tuple[float, float]:
    """Return the bounds between which LEVEL of the resampled values lie."""
    low, high = np.quantile(resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
