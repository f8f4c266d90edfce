from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from jobs.report.comparisons import hedges_g, permutation, student_quantiles, with_permutation_test, with_sign_flips

LOW, HIGH = [0.4, 0.5, 0.9], [0.1, 0.2, 0.3, 0.15]


def test_student_quantiles_make_scipys_interval_of_a_mean() -> None:
    values = np.array([0.1, 0.4, 0.35, 0.8])
    t = dict(zip(*(column.to_pylist() for column in student_quantiles().columns), strict=True))
    half = t[len(values)] * values.std(ddof=1) / np.sqrt(len(values))
    low, high = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert (values.mean() - half, values.mean() + half) == pytest.approx((low, high))


def test_a_permutation_tries_every_way_to_exchange_languages() -> None:
    together = np.array(LOW + HIGH)
    seen = abs(np.mean(LOW) - np.mean(HIGH))
    ways = [set(chosen) for chosen in combinations(range(7), 3)]
    gaps = [
        together[list(chosen)].mean() - together[[index for index in range(7) if index not in chosen]].mean()
        for chosen in ways
    ]
    smaller, larger = (np.mean([sign * gap >= seen - 1e-12 for gap in gaps]) for sign in (-1, 1))
    assert permutation(LOW, HIGH) == pytest.approx(min(1.0, 2 * min(smaller or 1.0, larger)))


def test_hedges_g_is_cohens_d_less_its_bias() -> None:
    pooled = np.sqrt((np.var(LOW, ddof=1) * 2 + np.var(HIGH, ddof=1) * 3) / 5)
    d = (np.mean(LOW) - np.mean(HIGH)) / pooled
    assert hedges_g(LOW, HIGH) == pytest.approx(d * (1 - 3 / (4 * 7 - 9)))
    assert hedges_g(HIGH, LOW) == pytest.approx(-d * (1 - 3 / (4 * 7 - 9)))


def test_hedges_g_is_undefined_for_one_language_and_without_spread() -> None:
    assert hedges_g([0.4], HIGH) is None
    assert permutation([0.4], HIGH) is None
    assert hedges_g([0.4, 0.4], [0.1, 0.1]) is None
    assert np.var([0.1] * 3) > 0, "a rounding error"
    assert hedges_g([0.4] * 3, [0.1] * 3) is None


def test_a_permutation_test_replaces_the_lists_of_values() -> None:
    compared = with_permutation_test(pa.table({"panel": ["lss: lss"], "low": [LOW], "high": [HIGH]}))
    assert compared.column_names == ["panel", "difference", "g", "p"]
    (row,) = compared.to_pylist()
    assert row["difference"] == pytest.approx(0.6 - 0.1875)
    assert (row["g"], row["p"]) == (hedges_g(LOW, HIGH), permutation(LOW, HIGH))


def test_facts_are_flipped_whole_with_all_of_their_base_languages() -> None:
    """Six facts that three base languages shift alike are six observations, not eighteen."""
    differences = [3, 3, 3, 3, 3, -3]
    counts = pa.table({"control": ["random"], "n": [18], "differences": [differences]})
    (row,) = with_sign_flips(counts).to_pylist()
    flipped = [abs(np.dot(signs, differences)) for signs in product((-1, 1), repeat=len(differences))]
    assert row["p"] == pytest.approx(np.mean(np.array(flipped) >= sum(differences)), rel=1e-12)
    assert row["p"] > 0.05 > stats.binomtest(15, 18).pvalue, "McNemar's test of the pairs"
    assert "differences" not in row


def test_one_base_language_has_mcnemars_exact_test() -> None:
    counts = pa.table({"control": ["random", "other"], "differences": [[1, 1, 1, 0, -1], [1, 1, 1, 1, 1]]})
    first, second = with_sign_flips(counts).to_pylist()
    assert first["p"] == pytest.approx(stats.binomtest(3, 4).pvalue)
    assert second["p"] == second["p_holm"] == pytest.approx(stats.binomtest(5, 5).pvalue)
