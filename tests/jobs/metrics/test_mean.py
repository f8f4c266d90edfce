from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from jobs.metrics.mean import NLL, PERPLEXITY, compare_means
from jobs.metrics.result import MetricResult
from jobs.statistics.tango import tango


def scores(*values: float) -> pa.Table:
    return pa.table({"score": pa.array(values, pa.float64())})


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_perplexity_is_the_mean_of_the_exponentials() -> None:
    result = PERPLEXITY.evaluate(scores(0.0, np.log(3.0)), rng())
    assert result.n == 2
    assert result.value == pytest.approx(2.0)
    assert result.baseline is None


def test_it_is_paired_with_its_baseline() -> None:
    result = NLL.compare(scores(1.0, 2.0, 3.0, 5.0), scores(2.0, 3.0, 4.0, 6.0), rng())
    assert (result.value, result.baseline, result.delta) == (2.75, 3.75, -1.0)
    assert (result.delta_ci_low, result.delta_ci_high) == (-1.0, -1.0)
    assert result.p_value == pytest.approx(2 / 2**4, abs=0.02)


@pytest.mark.parametrize("score", [800.0, np.inf, np.nan])
def test_what_is_not_finite_is_no_value(score: float) -> None:
    result = PERPLEXITY.evaluate(scores(1.0, score), rng())
    assert result == MetricResult(n=2, note="the value is infinite or not a number")
    assert PERPLEXITY.compare(scores(1.0, score), scores(1.0, 1.0), rng()) == result


def test_without_a_finite_baseline_there_is_no_difference() -> None:
    result = PERPLEXITY.compare(scores(0.0, 0.0), scores(1.0, 800.0), rng())
    assert (result.n, result.value, result.ci_low, result.ci_high) == (2, 1.0, 1.0, 1.0)
    assert (result.baseline, result.delta, result.p_value, result.effect) == (None, None, None, None)
    assert result.note == "the baseline's value is infinite or not a number"


def test_without_items_there_is_no_value() -> None:
    for result in (NLL.evaluate(scores(), rng()), NLL.compare(scores(), scores(), rng())):
        assert (result.n, result.value, result.p_value) == (0, None, None)


def test_a_share_that_changed_for_no_item_is_still_uncertain() -> None:
    ones, halves = np.ones(30), np.full(30, 0.5)
    same = compare_means(ones, ones, rng(), is_share=True)
    assert (same.delta_ci_low, same.delta_ci_high) == tango(0.0, 30)
    assert (same.delta_se, same.p_value) == (0.0, 1.0)
    for values, is_share in ((halves, True), (ones, False)):  # of which nothing bounds the spread
        same = compare_means(values, values, rng(), is_share=is_share)
        assert (same.delta_ci_low, same.delta_ci_high) == (0.0, 0.0)
