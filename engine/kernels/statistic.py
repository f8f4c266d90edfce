"""Statistics of one token's activations over a whole layer, taken before any intervention.

Every rank statistic is made of quantiles between two neighbouring order statistics; a `StatisticPlan` holds their
places, so that a kernel needs no case for each percentile. Width is the number of neurons of the layer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

StatisticName = Literal["mean", "std", "max", "median", "percentile", "iqr", "mad"]

NONE, MEAN, STD, MAX, QUANTILE, SPREAD, DEVIATION = range(7)
"""What a kernel computes: the last three are one quantile, the first less the second, and the median deviation."""

_KINDS = {
    "mean": MEAN,
    "std": STD,
    "max": MAX,
    "median": QUANTILE,
    "percentile": QUANTILE,
    "iqr": SPREAD,
    "mad": DEVIATION,
}


@dataclass(frozen=True, kw_only=True)
class StatisticPlan:
    """A statistic, ready for a kernel: quantile q is value[ranks[q]] + weights[q] * (value[ranks[q] + 1] - the same).

    Ranks count from 0 over the ascending values.
    """

    kind: int
    ranks: tuple[int, int]
    weights: tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Statistic:
    """One statistic over the n activations of a token.

    `mean`; `std` with n - 1; `max`; `median`, the lower one; `percentile` with `percent` of 0 to 100, interpolated
    linearly; `iqr`, percentile 75 less percentile 25; `mad`, the median of the distances to the median.
    """

    name: StatisticName
    percent: float = 50.0

    def __post_init__(self) -> None:
        assert self.name in get_args(StatisticName)
        assert 0.0 <= self.percent <= 100.0

    def plan(self, width: int) -> StatisticPlan:
        """Return the places of its quantiles among `width` values."""
        if self.name == "iqr":
            places = (_place(75.0, width), _place(25.0, width))
        elif self.name == "percentile":
            places = (_place(self.percent, width), (0, 0.0))
        else:
            places = (((width - 1) // 2, 0.0), (0, 0.0))
        (first, first_weight), (second, second_weight) = places
        return StatisticPlan(kind=_KINDS[self.name], ranks=(first, second), weights=(first_weight, second_weight))


def _place(percent: float, width: int) -> tuple[int, float]:
    at = percent / 100.0 * (width - 1)
    return math.floor(at), at - math.floor(at)
