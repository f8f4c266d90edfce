"""Statistics of one token's activations over a whole layer, taken before any intervention.

Every rank statistic consists of quantiles, each interpolated between two neighbouring order statistics. A
`StatisticPlan` holds their positions, so that a kernel needs no case for each percentile. The width is the number of
neurons of the layer.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast, get_args

StatisticName = Literal["mean", "std", "max", "median", "percentile", "iqr", "mad"]

NONE, MEAN, STD, MAX, QUANTILE, SPREAD, DEVIATION = range(7)
"""What a kernel computes. QUANTILE is the first quantile of the plan, SPREAD the first minus the second, DEVIATION the
median absolute deviation."""

_KINDS = {
    "mean": MEAN,
    "std": STD,
    "max": MAX,
    "median": QUANTILE,
    "percentile": QUANTILE,
    "iqr": SPREAD,
    "mad": DEVIATION,
}


EXAMPLES = ("mean", "median", "max", "std", "iqr", "mad", "p75", "p90", "p97.5", "p99")
"""Names of statistics that clients may offer: all but the percentiles, and some of those."""
_PERCENTILE = re.compile(r"p(\d{1,3}(?:\.\d{1,4})?)")


@dataclass(frozen=True, kw_only=True)
class StatisticPlan:
    """A statistic in the form that a kernel reads.

    Quantile q is v[r] + weights[q] * (v[r + 1] - v[r]), where r = ranks[q] and v are the values in ascending order.
    """

    kind: int
    ranks: tuple[int, int]
    weights: tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Statistic:
    """One statistic over the n activations of a token.

    `mean`; `std` with n - 1 in the denominator (0 for n = 1); `max`; `median`, the lower one for an even n;
    `percentile`, the percentile `percent` from 0 to 100 with linear interpolation; `iqr`, percentile 75 minus
    percentile 25; `mad`, the median absolute deviation from the median.

    Example:
        >>> Statistic.parse("p97.50").word, Statistic.parse("p75").plan(width=5).ranks[0]
        ('p97.5', 3)
    """

    name: StatisticName
    percent: float = 50.0

    def __post_init__(self) -> None:
        assert self.name in get_args(StatisticName)
        assert 0.0 <= self.percent <= 100.0

    @classmethod
    def parse(cls, word: str) -> Statistic:
        """Read `mean`, `std`, `median`, `max`, `iqr`, `mad` or a percentile such as `p5` or `p97.5`.

        A percentile is from 0 to 100, with at most four decimals.

        Raises:
            ValueError: `word` is none of these.
        """
        if (match := _PERCENTILE.fullmatch(word)) and float(match[1]) <= 100.0:
            return cls(name="percentile", percent=float(match[1]))
        names = [name for name in get_args(StatisticName) if name != "percentile"]
        if word not in names:
            raise ValueError(f"must be one of {', '.join(names)}, or a percentile from p0 to p100")
        return cls(name=cast("StatisticName", word))

    @property
    def word(self) -> str:
        """The word that `parse` reads; equal exactly for equal statistics."""
        return self.name if self.name != "percentile" else f"p{self.percent!r}".removesuffix(".0")

    def plan(self, width: int) -> StatisticPlan:
        """Return the kernel's form of the statistic over `width` values."""
        if self.name == "iqr":
            positions = (_position(75.0, width), _position(25.0, width))
        elif self.name == "percentile":
            positions = (_position(self.percent, width), (0, 0.0))
        else:
            positions = (((width - 1) // 2, 0.0), (0, 0.0))
        (first, first_weight), (second, second_weight) = positions
        return StatisticPlan(kind=_KINDS[self.name], ranks=(first, second), weights=(first_weight, second_weight))

    def plans(self, widths: Sequence[int]) -> tuple[list[tuple[int, int, int]], list[tuple[float, float]]]:
        """Return kind and ranks, and weights, of the plan over each of `widths`, in lists as tables store them."""
        by_width = {width: self.plan(width) for width in set(widths)}
        plans = [by_width[width] for width in widths]
        return [(plan.kind, *plan.ranks) for plan in plans], [plan.weights for plan in plans]


def _position(percent: float, width: int) -> tuple[int, float]:
    """Return the rank below a percentile and the weight of the next rank."""
    position = percent / 100.0 * (width - 1)
    return math.floor(position), position - math.floor(position)
