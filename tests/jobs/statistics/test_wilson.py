from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from jobs.statistics.bootstrap import bootstrap_mean
from jobs.statistics.wilson import at_bound, share_interval, wilson


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.mark.parametrize(("successes", "items"), [(0, 1), (0, 16), (16, 16), (5, 24), (23, 24), (500, 1000)])
def test_the_interval_is_scipys(successes: int, items: int) -> None:
    expected = binomtest(successes, items).proportion_ci(method="wilson")
    assert wilson(successes / items, items) == pytest.approx((expected.low, expected.high))


def test_an_interval_at_a_bound_has_a_width_and_stays_inside() -> None:
    low, high = wilson(1.0, 16)
    assert low == pytest.approx(0.806, abs=1e-3)
    assert high == 1.0
    assert wilson(0.0, 16)[0] == 0.0
    assert wilson(0.0, 16)[1] == pytest.approx(1 - low)


def test_values_between_0_and_1_are_bootstrapped() -> None:
    assert share_interval(np.array([0.0, 1.0, 1.0, 1.0]), rng()) == wilson(0.75, 4)
    values = np.array([0.0, 0.5, 1.0, 1.0])
    assert share_interval(values, rng()) == bootstrap_mean(values, rng())


def test_a_rate_inside_its_bounds_keeps_its_interval() -> None:
    assert at_bound(0.9, 10, 0.7, 1.0) == (0.7, 1.0)
    assert at_bound(1.0, 10, 1.0, 1.0) == wilson(1.0, 10)
