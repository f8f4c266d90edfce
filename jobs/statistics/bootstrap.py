"""Bootstrap intervals. The caller seeds the random numbers, so that the same samples give the same intervals."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
LEVEL = 0.95
BATCH_VALUES = 4_000_000
"""Maximum number of values, of at most 8 bytes each, drawn at once. Limits the memory that resampling needs."""

Floats = NDArray[np.float64]


def bootstrap_mean(values: Floats, rng: np.random.Generator) -> tuple[float, float]:
    """Return the 95 % percentile interval of the mean of `values` [n], n > 0, from 2000 resamples of the items."""
    return interval(resampled_means(values, rng))


def resampled_means(values: Floats, rng: np.random.Generator) -> Floats:
    """Return the means [RESAMPLES] of resamples of `values` [n], n > 0.

    Each resample is one multinomial draw of the count of each distinct value, which is equivalent to drawing n items
    with replacement.
    """
    distinct, counts = np.unique(values, return_counts=True)
    shares = counts / len(values)
    means = [
        rng.multinomial(len(values), shares, size=rows) @ distinct / len(values)
        for rows in batches(RESAMPLES, len(distinct))
    ]
    return np.concatenate(means)


def batches(resamples: int, items: int) -> Iterator[int]:
    """Yield the sizes of batches that add up to `resamples` and draw at most `BATCH_VALUES` values each.

    Every size but the last is a multiple of 8, so that the batches draw the same random numbers as one large draw.

    Args:
        resamples: Number of resamples.
        items: Number of values in a resample.
    """
    most = max(8, BATCH_VALUES // max(1, items) // 8 * 8)
    for start in range(0, resamples, most):
        yield min(most, resamples - start)


def is_point(low: float, high: float) -> bool:
    """Return whether an interval has no width, but for rounding: all resamples of the items have the same value."""
    return math.isclose(low, high, rel_tol=1e-9, abs_tol=1e-12)


def interval(resampled: Floats) -> tuple[float, float]:
    """Return the bounds of the central interval that contains a share LEVEL of the resampled values.

    They may be infinite or NaN if some of the values are.
    """
    with np.errstate(invalid="ignore"):
        low, high = np.quantile(resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
