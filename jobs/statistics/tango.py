"""Tango's interval of a paired difference of shares where no item changed, or all items changed alike.

A percentile bootstrap of such items is a point. The score interval of Tango (1998, Statistics in Medicine 17:891-908)
has a width, and a closed form in these cases.
"""

from __future__ import annotations

from statistics import NormalDist

from jobs.statistics.bootstrap import LEVEL, is_point

_Z2 = NormalDist().inv_cdf((1 + LEVEL) / 2) ** 2


def tango(difference: float, items: float) -> tuple[float, float]:
    """Return the 95 % interval of the difference of two paired shares that is the same for every item.

    Args:
        difference: 0 if no item changed, 1 if all items gained the property, -1 if all lost it.
        items: Number of independent items, more than 0.
    """
    if difference == 0:
        return -_Z2 / (items + _Z2), _Z2 / (items + _Z2)
    inner = (items - _Z2) / (items + _Z2)
    return (inner, 1.0) if difference == 1 else (-1.0, -inner)


def widened(low: float, high: float, items: float) -> tuple[float, float]:
    """Return the interval of a paired difference of shares: Tango's if the bootstrap's is a point at -1, 0 or 1.

    Args:
        low: Lower bound by the bootstrap.
        high: Upper bound by the bootstrap.
        items: Number of independent items, more than 0.
    """
    nearest = float(round(low)) if is_point(low, high) else None
    return tango(nearest, items) if nearest is not None and is_point(low, nearest) else (low, high)
