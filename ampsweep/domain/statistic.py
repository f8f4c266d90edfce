"""Statistics of one token's activations over a whole layer, taken before any intervention.

Every rank statistic is made of quantiles between two neighbouring order statistics; a `StatisticPlan` holds their
places, so that a kernel needs no case for each percentile. Width is the number of neurons of the layer.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal, cast, get_args

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


_PERCENTILE = re.compile(r"p(\d{1,3}(?:\.\d{1,4})?)")


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

    `mean`; `std` with n - 1 (0 of a single one); `max`; `median`, the lower one; `percentile` with `percent` of 0 to
    100, interpolated linearly; `iqr`, percentile 75 less percentile 25; `mad`, the median distance to the median.
    """

    name: StatisticName
    percent: float = 50.0

    def __post_init__(self) -> None:
        assert self.name in get_args(StatisticName)
        assert 0.0 <= self.percent <= 100.0

    @classmethod
    def parse(cls, word: str) -> Statistic:
        """Read `mean`, `std`, `median`, `max`, `iqr`, `mad` or a percentile such as `p5` or `p97.5`.

        A percentile is from 0 to 100, with at most four decimals. Raises ValueError, saying so.
        """
        if (found := _PERCENTILE.fullmatch(word)) and float(found[1]) <= 100.0:
            return cls(name="percentile", percent=float(found[1]))
        names = [name for name in get_args(StatisticName) if name != "percentile"]
        if word not in names:
            raise ValueError(f"must be one of {', '.join(names)}, or a percentile from p0 to p100")
        return cls(name=cast("StatisticName", word))

    @property
    def word(self) -> str:
        """What `parse` reads; equal exactly for equal statistics."""
        return self.name if self.name != "percentile" else f"p{self.percent!r}".removesuffix(".0")

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
