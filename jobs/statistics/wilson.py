"""Wilson's interval of a share, which has a width where all items or none have the property.

Brown, Cai & DasGupta (2001, doi 10.1214/ss/1009213286) recommend it for few items. A percentile bootstrap of values
that are all 0 or all 1 is a point.
"""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np

from jobs.statistics.bootstrap import LEVEL, Floats, bootstrap_mean

_Z = NormalDist().inv_cdf((1 + LEVEL) / 2)


def wilson(share: float, items: float) -> tuple[float, float]:
    """Return the 95 % interval of a share, as `scipy.stats.binomtest(...).proportion_ci(method="wilson")` gives it.

    SciPy's function also computes an exact test, which takes longer than a bootstrap.

    Args:
        share: The observed share, from 0 to 1.
        items: Number of independent items, more than 0. That of weighted items is an effective number, not an integer.
    """
    middle = (share + _Z**2 / (2 * items)) / (1 + _Z**2 / items)
    half = _Z * math.sqrt(share * (1 - share) / items + _Z**2 / (4 * items**2)) / (1 + _Z**2 / items)
    return (0.0 if share == 0 else middle - half), (1.0 if share == 1 else middle + half)


def share_interval(values: Floats, rng: np.random.Generator) -> tuple[float, float]:
    """Return the 95 % interval of the mean of `values` [n] between 0 and 1, n > 0.

    It is Wilson's if all values are 0 or 1, otherwise the bootstrap's.
    """
    if is_binary(values):
        return wilson(float(values.mean()), len(values))
    return bootstrap_mean(values, rng)


def is_binary(values: Floats) -> bool:
    """Return whether all values are 0 or 1."""
    return bool(((values == 0) | (values == 1)).all())


def at_bound(value: float, items: float, low: float | None, high: float | None) -> tuple[float | None, float | None]:
    """Return the interval of a rate between 0 and 1: Wilson's if the rate is 0 or 1, otherwise the given bounds.

    Args:
        value: The rate.
        items: Number of independent items, more than 0: several answers to a prompt are one item.
        low: Lower bound by the bootstrap.
        high: Upper bound by the bootstrap.
    """
    return wilson(value, items) if value in (0.0, 1.0) else (low, high)
