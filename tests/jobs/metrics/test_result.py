from __future__ import annotations

from dataclasses import replace
from math import inf, nan

from jobs.metrics.result import (
    ALIKE,
    BASELINE_NOT_FINITE,
    DIFFERENCES_ALIKE,
    INTERVAL_NOT_FINITE,
    NOT_FINITE,
    MetricResult,
)

RESULT = MetricResult(
    n=30, value=1.0, ci_low=0.5, ci_high=1.5, baseline=2.0, delta=-1.0, p_value=0.5, effect=0.1, signature="v1"
)


def test_a_finite_result_stays_as_it_is() -> None:
    assert RESULT.finite() is RESULT


def test_a_value_that_is_not_finite_takes_all_others_with_it() -> None:
    expected = MetricResult(n=30, signature="v1", note=f"a caveat; {NOT_FINITE}")
    assert replace(RESULT, value=nan, note="a caveat").finite() == expected


def test_without_a_finite_baseline_there_is_a_value_but_no_difference() -> None:
    expected = MetricResult(n=30, value=1.0, ci_low=0.5, ci_high=1.5, signature="v1", note=BASELINE_NOT_FINITE)
    assert replace(RESULT, baseline=inf, delta=-inf).finite() == expected


def test_an_interval_that_is_undefined_is_left_out() -> None:
    expected = replace(RESULT, ci_low=None, ci_high=None, note=INTERVAL_NOT_FINITE)
    assert replace(RESULT, ci_low=nan, ci_high=nan).finite() == expected


def test_an_interval_that_is_a_point_is_left_out() -> None:
    assert RESULT.without_points() is RESULT
    point = replace(RESULT, ci_low=1.0, ci_high=1.0 + 1e-14, note="a caveat")
    assert point.without_points() == replace(RESULT, ci_low=None, ci_high=None, note=f"a caveat; {ALIKE}")
    difference = replace(RESULT, delta_ci_low=-1.0, delta_ci_high=-1.0)
    expected = replace(RESULT, delta_ci_low=None, delta_ci_high=None, note=DIFFERENCES_ALIKE)
    assert difference.without_points() == expected
