from __future__ import annotations

import gc
import math
import tracemalloc
from fractions import Fraction
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, binomtest, norm, permutation_test, ttest_1samp
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar
from statsmodels.stats.multitest import multipletests

from jobs.statistics import bootstrap, significance
from jobs.statistics.significance import (
    EXACT_PAIRS,
    FLIPS,
    cohens_dz,
    cohens_g,
    discordant,
    holm,
    mcnemar,
    mcnemar_mid,
    sign_flip,
)

NO_RANDOM_NUMBERS: Any = None
"""For tests that draw none, because they are exact."""


def bools(text: str) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    return np.array([letter == "1" for letter in text])


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
    assert mcnemar(*discordant(bools(steered), bools(baseline))) == pytest.approx(p_value)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=60))
def test_mcnemar_is_the_binomial_test_of_the_items_that_differ(pairs: list[tuple[bool, bool]]) -> None:
    gained = sum(steered and not plain for steered, plain in pairs)
    lost = sum(plain and not steered for steered, plain in pairs)
    expected = binomtest(gained, gained + lost, 0.5).pvalue if gained + lost else 1.0
    correctness = np.array(pairs, bool).reshape(-1, 2)
    assert mcnemar(*discordant(correctness[:, 0], correctness[:, 1])) == pytest.approx(expected)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=60))
def test_mcnemar_is_what_statsmodels_says(pairs: list[tuple[bool, bool]]) -> None:
    correctness = np.array(pairs, bool).reshape(-1, 2)
    table = [[pairs.count((one, two)) for two in (True, False)] for one in (True, False)]
    assert mcnemar(*discordant(correctness[:, 0], correctness[:, 1])) == pytest.approx(
        statsmodels_mcnemar(table, exact=True).pvalue
    )


@given(st.integers(0, 40), st.integers(0, 40))
def test_mid_p_counts_half_of_the_observed_outcome(gained: int, lost: int) -> None:
    fair = binom(gained + lost, 0.5)
    tail = fair.cdf(min(gained, lost)) - 0.5 * fair.pmf(min(gained, lost))
    if gained != lost:
        assert mcnemar_mid(gained, lost) == pytest.approx(2 * tail)
    assert mcnemar_mid(gained, lost) <= mcnemar(gained, lost)


def test_mid_p_of_as_many_gains_as_losses() -> None:
    assert mcnemar_mid(0, 0) == 1.0
    assert mcnemar_mid(1, 1) == pytest.approx(1 - 0.5 * 2 / 4)  # Fagerland et al. 2013: 1 - f(n12 | n) / 2
    assert mcnemar_mid(3, 3) == pytest.approx(1 - 0.5 * 20 / 64)


@given(st.integers(0, 300), st.integers(0, 300))
def test_mcnemar_is_exact_to_the_last_digits(gained: int, lost: int) -> None:
    pairs, fewer = gained + lost, min(gained, lost)
    ways = [sum(math.comb(pairs, count) for count in range(most + 1)) for most in (fewer, fewer - 1)]
    exact, mid = min(Fraction(1), Fraction(2 * ways[0], 2**pairs)), Fraction(sum(ways), 2**pairs)
    assert mcnemar(gained, lost) == pytest.approx(float(exact), rel=1e-15, abs=0)
    if gained != lost:
        assert mcnemar_mid(gained, lost) == pytest.approx(float(mid), rel=1e-15, abs=0)


def test_mcnemar_holds_for_many_items() -> None:
    assert mcnemar(5000, 0) == 0.0
    assert mcnemar(500_000, 500_400) == pytest.approx(2 * norm.cdf(-400 / 1_000_400**0.5), abs=1e-3)


def test_sign_flip_is_scipys_permutation_test_of_pairs() -> None:
    difference = np.random.default_rng(3).normal(0.4, 1.0, size=12)
    exact = permutation_test((difference,), np.mean, permutation_type="samples", n_resamples=np.inf).pvalue
    assert sign_flip(difference, NO_RANDOM_NUMBERS) == pytest.approx(exact, rel=1e-12)


@given(st.lists(st.integers(-3, 3).map(lambda thirds: thirds / 3), min_size=1, max_size=EXACT_PAIRS))
def test_the_signs_of_a_few_differences_are_flipped_in_all_ways(differences: list[float]) -> None:
    thirds = [round(3 * each) for each in differences]  # whole numbers, whose sums are exact
    sums = [abs(sum(pattern)) for pattern in product(*((each, -each) for each in thirds))]
    expected = sum(each >= abs(sum(thirds)) for each in sums) / len(sums)
    assert sign_flip(np.array(differences), NO_RANDOM_NUMBERS) == pytest.approx(expected, rel=1e-12)


def test_many_differences_of_one_size_have_the_exact_binomial_test() -> None:
    differences = np.repeat([0.2, -0.2, 0.0], [40, 22, 30])
    assert sign_flip(differences, NO_RANDOM_NUMBERS) == pytest.approx(binomtest(40, 62).pvalue, rel=1e-12)


def test_the_random_signs_of_many_differences_come_close_to_the_exact_distribution() -> None:
    difference = np.random.default_rng(3).normal(0.4, 1.0, size=EXACT_PAIRS + 3)
    exact = permutation_test((difference,), np.mean, permutation_type="samples", n_resamples=np.inf).pvalue
    assert sign_flip(difference, np.random.default_rng(0)) == pytest.approx(exact, abs=0.02)
    assert sign_flip(difference + 9, np.random.default_rng(0)) == pytest.approx(1 / FLIPS, abs=1e-4)


def test_sign_flip_draws_the_same_signs_in_batches_as_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    difference = np.random.default_rng(5).normal(0.1, 1.0, size=37)
    signs = np.random.default_rng(2).integers(0, 2, size=(FLIPS - 1, 37), dtype=np.int8) * 2 - 1
    at_once = (1 + int((np.abs(signs @ difference) >= abs(difference.sum())).sum())) / FLIPS
    monkeypatch.setattr(bootstrap, "BATCH_VALUES", 37 * 24)
    assert sign_flip(difference, np.random.default_rng(2)) == at_once


def test_sign_flip_of_a_million_differences_stays_below_a_gigabyte(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(significance, "FLIPS", 33)
    difference = np.random.default_rng(5).normal(0.0, 1.0, size=1_000_000)
    tracemalloc.start()
    sign_flip(difference, np.random.default_rng(2))
    assert tracemalloc.get_traced_memory()[1] < 200 * 2**20
    tracemalloc.stop()


def test_sign_flip_of_no_difference_is_one_and_of_a_large_one_small() -> None:
    assert sign_flip(np.zeros(20), NO_RANDOM_NUMBERS) == 1.0
    assert sign_flip(np.ones(200), NO_RANDOM_NUMBERS) == pytest.approx(2 / 2**200)
    assert sign_flip(np.linspace(1, 2, 200), np.random.default_rng(0)) == 1 / FLIPS


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_holm_is_what_statsmodels_says(p_values: list[float]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gc, "collect", lambda: 0)  # multipletests collects garbage at every call, which takes long here
        expected = multipletests(p_values, method="holm")[1]
    assert holm(p_values) == pytest.approx(expected)


def test_no_p_values_have_no_correction() -> None:
    assert holm([]) == []


@pytest.mark.parametrize(
    ("steered", "baseline", "effect"),
    [("1110", "0001", 0.25), ("1111", "0000", 0.5), ("0000", "1111", -0.5), ("10", "10", 0)],
)
def test_cohens_g_is_the_share_of_gains_less_a_half(steered: str, baseline: str, effect: float) -> None:
    assert cohens_g(*discordant(bools(steered), bools(baseline))) == effect


def test_cohens_dz_is_the_mean_in_units_of_the_spread() -> None:
    difference = np.random.default_rng(1).normal(0.5, 1.0, 30)
    t = ttest_1samp(difference, 0.0).statistic
    assert cohens_dz(difference) == pytest.approx(t / np.sqrt(30))
    assert cohens_dz(np.zeros(4)) == 0.0
    assert cohens_dz(np.ones(4)) is None
    assert np.full(3, 0.1).std() > 0, "a rounding error"
    assert cohens_dz(np.full(3, 0.1)) is None
    assert cohens_dz(np.ones(1)) is None
