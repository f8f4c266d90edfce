from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from jobs.metrics import accuracy, bootstrap_mean, lss, mcnemar, paired_accuracy


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def bools(text: str) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    return np.array([letter == "1" for letter in text])


def test_the_interval_is_that_of_plain_resampling() -> None:
    values = rng(1).normal(size=60)
    low, high = bootstrap_mean(values, rng())
    plain = values[rng(2).integers(0, 60, size=(20_000, 60))].mean(axis=1)
    assert np.allclose([low, high], np.quantile(plain, [0.025, 0.975]), atol=0.03)


def test_equal_values_have_an_interval_without_width() -> None:
    assert bootstrap_mean(np.ones(5), rng()) == (1.0, 1.0)


def test_the_same_seed_gives_the_same_interval() -> None:
    values = np.array([0.0, 1.0, 1.0, 0.0, 1.0])
    assert bootstrap_mean(values, rng(3)) == bootstrap_mean(values, rng(3))


@pytest.mark.parametrize(
    ("steered", "baseline", "p_value"),
    [
        ("1111111111", "0000000000", 2 * 0.5**10),
        ("1100", "0011", 1.0),
        ("1010", "1010", 1.0),
        ("111110", "000001", 2 * (1 + 6) * 0.5**6),
    ],
)
def test_mcnemar_is_exact(steered: str, baseline: str, p_value: float) -> None:
    assert mcnemar(bools(steered), bools(baseline)) == pytest.approx(p_value)


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=60))
def test_mcnemar_is_the_binomial_test_of_the_items_that_differ(pairs: list[tuple[bool, bool]]) -> None:
    gained = sum(steered and not plain for steered, plain in pairs)
    lost = sum(plain and not steered for steered, plain in pairs)
    expected = binomtest(gained, gained + lost, 0.5).pvalue if gained + lost else 1.0
    verdicts = np.array(pairs, bool).reshape(-1, 2)
    assert mcnemar(verdicts[:, 0], verdicts[:, 1]) == pytest.approx(expected)


def test_mcnemar_holds_for_many_items() -> None:
    steered = np.ones(5000, bool)
    assert mcnemar(steered, ~steered) == 0.0


def test_lss_is_the_share_of_facts_that_shifted_and_a_tie_is_no_shift() -> None:
    verdict = lss(np.array([1.0, 2.0, 3.0, 0.0]), np.array([0.0, 2.0, 4.0, -1.0]), rng())
    assert (verdict.n, verdict.value) == (4, 0.5)
    assert verdict.ci_low is not None
    assert verdict.ci_high is not None
    assert 0 <= verdict.ci_low < 0.5 < verdict.ci_high <= 1
    assert (verdict.baseline, verdict.delta, verdict.p_value) == (None, None, None)


def test_accuracy_is_paired_with_its_baseline() -> None:
    verdict = paired_accuracy(bools("11110000"), bools("11000000"), rng())
    assert (verdict.n, verdict.value, verdict.baseline, verdict.delta) == (8, 0.5, 0.25, 0.25)
    assert verdict.p_value == pytest.approx(0.5)
    assert verdict.delta_ci_low is not None
    assert verdict.delta_ci_high is not None
    assert verdict.delta_ci_low <= 0.25 <= verdict.delta_ci_high


def test_without_items_there_is_no_value() -> None:
    nothing = np.array([])
    for verdict in (lss(nothing, nothing, rng()), accuracy(nothing > 0, rng())):
        assert (verdict.n, verdict.value, verdict.ci_low) == (0, None, None)
    assert paired_accuracy(nothing > 0, nothing > 0, rng()).value is None
