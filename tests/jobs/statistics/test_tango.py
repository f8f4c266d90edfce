"""The interval of a paired difference that is the same for every item, against the score equation of Tango (1998)."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import norm

from jobs.metrics.share import compare_shares
from jobs.statistics.tango import tango, widened


def score(difference: float, gained: int, lost: int, items: int) -> float:
    """Return Tango's score statistic of a hypothetical difference (equations 8 and 9 of the paper)."""
    a, c = 2 * items, -lost * difference * (1 - difference)
    b = -gained - lost + (2 * items - gained + lost) * difference
    nuisance = (math.sqrt(max(b * b - 4 * a * c, 0.0)) - b) / (2 * a)
    variance = items * (2 * nuisance + difference * (1 - difference))
    return (gained - lost - items * difference) / math.sqrt(variance)


@pytest.mark.parametrize("items", [1, 5, 40])
def test_the_bounds_solve_the_score_equation(items: int) -> None:
    z = norm.ppf(0.975)
    low, high = tango(0.0, items)
    assert brentq(lambda difference: score(difference, 0, 0, items) + z, 1e-9, 1 - 1e-9) == pytest.approx(high)
    assert low == -high
    low, high = tango(1.0, items)
    assert brentq(lambda difference: score(difference, items, 0, items) - z, -1 + 1e-9, 1 - 1e-9) == pytest.approx(low)
    assert high == 1.0
    assert tango(-1.0, items) == (-high, -low)


def test_only_a_point_at_a_whole_number_is_widened() -> None:
    assert widened(0.0, 0.0, 20) == tango(0.0, 20)
    assert widened(1.0, 1.0 + 1e-15, 20) == tango(1.0, 20)
    for bounds in ((0.0, 0.1), (0.25, 0.25), (-1.0, 0.0)):
        assert widened(*bounds, 20) == bounds


@pytest.mark.parametrize(("plain", "steered", "delta"), [(True, True, 0.0), (False, True, 1.0), (True, False, -1.0)])
def test_answers_that_all_changed_alike_leave_a_doubt(plain: bool, steered: bool, delta: float) -> None:
    result = compare_shares(np.full(20, steered), np.full(20, plain), np.random.default_rng(0))
    assert result.delta == delta
    assert (result.delta_ci_low, result.delta_ci_high) == tango(delta, 20)
