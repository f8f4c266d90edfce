"""Power of a paired comparison: the smallest difference that the items could have shown."""

from __future__ import annotations

import math
from statistics import NormalDist

from ampsweep.domain.metric_names import ALPHA
from jobs.metrics.result import FEW, MetricResult

POWER = 0.80
"""Probability with which the test finds a difference of the size of the minimum detectable effect."""
_Z_TEST = NormalDist().inv_cdf(1 - ALPHA / 2)
_Z_POWER = NormalDist().inv_cdf(POWER)
NO_VARIATION = "no minimum detectable effect: the difference from the baseline is the same for every item"


def minimum_detectable_effect(result: MetricResult) -> float | None:
    """Return the difference from the baseline that the items of a cell show with a power of 80 %.

    MDE = (z_0.975 + z_0.80) * SE = 2.80 * SE, for a two-sided test at the level 0.05 (Bloom 1995, doi
    10.1177/0193841X9501900504). SE is the standard error of the paired difference: `result.delta_se` if the metric has
    one, otherwise the width of the 95 % interval of the difference divided by 2 * z_0.975 (Cochrane Handbook, 6.5.2.2).

    Returns:
        The effect in the unit of the metric. None without a paired difference, with fewer than `FEW` items, and if the
        difference is the same for every item, because the standard error is then unknown.
    """
    if result.delta is None or result.n < FEW:
        return None
    standard_error = result.delta_se
    if standard_error is None:
        if result.delta_ci_low is None or result.delta_ci_high is None:
            return None
        standard_error = (result.delta_ci_high - result.delta_ci_low) / (2 * _Z_TEST)
    return (_Z_TEST + _Z_POWER) * standard_error if standard_error > 0 else None


def mcnemar_standard_error(gained: int, lost: int, items: int) -> float:
    """Return the standard error of the difference of two paired shares, if the shares are equal.

    SE = sqrt(gained + lost) / items: that of McNemar's test, whose statistic is (gained - lost) / sqrt(gained + lost).
    The variance under the alternative is smaller by the square of the difference, so the minimum detectable effect is
    slightly larger than that of Connor (1987, doi 10.2307/2531961).

    Args:
        gained: Items with the property only in the steered cell.
        lost: Items with the property only in the baseline.
        items: All items.
    """
    return math.sqrt(gained + lost) / items
