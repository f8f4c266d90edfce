from __future__ import annotations

from itertools import product
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import scipy.stats

from jobs.metrics.item_sums import (
    compare_answers,
    compare_sums,
    evaluate_answers,
    evaluate_sums,
    has_several_answers,
    mean_of,
    sums_by_item,
)
from jobs.statistics.bootstrap import Floats, bootstrap_mean
from jobs.statistics.tango import tango
from jobs.statistics.wilson import wilson

VALUES = np.array([1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0, 0.0])


def rng() -> np.random.Generator:
    return np.random.default_rng(5)


def ids(items: int, answers: int) -> list[str]:
    return [f"okapi/{item}" for item in range(items) for _ in range(answers)]


def test_answers_are_summed_by_item() -> None:
    numbers = np.array([[1.0, 1.0], [5.0, 1.0], [2.0, 1.0]])
    assert sums_by_item(["b", "a", "b"], numbers).tolist() == [[3.0, 2.0], [5.0, 1.0]]


def test_an_item_is_the_unit_that_is_resampled() -> None:
    """Answers that repeat their item's value add nothing to what is known of the mean."""
    repeated = evaluate_answers(np.repeat(VALUES, 20), ids(12, 20), rng())
    assert repeated.n == 12
    assert repeated.value == pytest.approx(VALUES.mean())
    assert (repeated.ci_low, repeated.ci_high) == pytest.approx(bootstrap_mean(VALUES, rng()), abs=0.03)
    low, high = bootstrap_mean(np.repeat(VALUES, 20), rng())
    assert repeated.ci_low is not None
    assert repeated.ci_high is not None
    assert repeated.ci_high - repeated.ci_low > 3 * (high - low)


def test_items_with_more_answers_weigh_more() -> None:
    assert evaluate_answers(np.array([1.0, 1.0, 1.0, 0.0]), ["a", "a", "a", "b"], rng()).value == 0.75


def test_the_test_swaps_the_sides_of_items() -> None:
    plain = np.roll(VALUES, 1) * 0.5
    result = compare_answers(np.repeat(VALUES, 3), np.repeat(plain, 3), ids(12, 3), rng())
    exact = scipy.stats.permutation_test(
        (VALUES, plain),
        lambda first, other, axis: first.mean(axis) - other.mean(axis),
        permutation_type="samples",
        n_resamples=10**6,
        vectorized=True,
    )
    assert result.p_value == pytest.approx(exact.pvalue, rel=1e-12)
    assert [result.baseline, result.delta] == pytest.approx([plain.mean(), VALUES.mean() - plain.mean()])
    expected = bootstrap_mean(VALUES - plain, rng())
    assert (result.delta_ci_low, result.delta_ci_high) == pytest.approx(expected, abs=0.06)


def test_what_changes_nothing_has_a_p_value_of_one_without_a_swap() -> None:
    sums = np.array([[3.0, 4.0], [0.0, 1.0], [1.0, 4.0]])
    only_resamples: Any = SimpleNamespace(multinomial=rng().multinomial)
    result = compare_sums(sums, sums.copy(), mean_of, only_resamples)
    assert (result.delta, result.p_value) == (0.0, 1.0)
    with pytest.raises(AttributeError, match="binomial"):
        compare_sums(np.repeat(sums, 7, axis=0), np.repeat(sums[::-1], 7, axis=0), mean_of, only_resamples)


def test_the_sides_of_a_few_items_are_swapped_in_all_ways() -> None:
    """Of six items one does not differ. The score is a ratio, whose terms both change with a swap."""
    sums = np.array([[3.0, 4.0], [2.0, 2.0], [1.0, 4.0], [4.0, 5.0], [2.0, 3.0], [1.0, 1.0]])
    plain = np.array([[1.0, 4.0], [2.0, 3.0], [0.0, 3.0], [1.0, 5.0], [2.0, 3.0], [0.0, 2.0]])
    result = compare_sums(sums, plain, mean_of, rng())
    swapped = []
    for pattern in product((False, True), repeat=6):
        sides = np.where(np.array(pattern)[:, None], plain, sums), np.where(np.array(pattern)[:, None], sums, plain)
        first, second = (side[:, 0].sum() / side[:, 1].sum() for side in sides)
        swapped.append(abs(first - second))
    assert result.delta == pytest.approx(13 / 19 - 6 / 20)
    assert result.p_value == pytest.approx(np.mean(np.array(swapped) >= swapped[0] - 1e-12), rel=1e-12)


def test_a_ratio_is_one_of_totals() -> None:
    sums = np.array([[3.0, 4.0], [0.0, 0.0], [1.0, 4.0]])
    assert evaluate_sums(sums, mean_of, rng()).value == 0.5


def test_what_is_undefined_has_no_value() -> None:
    nothing, something = np.zeros((3, 2)), np.array([[1.0, 1.0], [0.0, 1.0], [1.0, 1.0]])
    assert evaluate_sums(nothing, mean_of, rng()).value is None
    assert evaluate_sums(nothing[:0], mean_of, rng()).n == 0
    result = compare_sums(something, nothing, mean_of, rng())
    assert result.value == pytest.approx(2 / 3)
    assert (result.baseline, result.delta) == (None, None)


def test_a_difference_of_rates_whose_answers_count_on_one_side_only() -> None:
    """Two answers count on either side, and no item's answers count on both."""
    steered: Floats = np.array([[1.0, 1.0], [0.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    plain: Floats = np.array([[0.0, 0.0], [0.0, 1.0], [0.0, 0.0], [1.0, 1.0]])
    result = compare_sums(steered, plain, mean_of, rng())
    assert (result.value, result.baseline, result.delta) == (1.0, 0.5, 0.5)


def test_several_answers_share_an_id() -> None:
    assert has_several_answers(pa.table({"doc_id": ["a", "a", "b"]}))
    assert not has_several_answers(pa.table({"doc_id": ["a", "b"]}))


def test_a_share_of_0_or_1_has_wilsons_interval_over_items() -> None:
    ones, names = np.ones(12 * 5), ids(12, 5)
    result = evaluate_answers(ones, names, rng(), is_share=True)
    assert (result.ci_low, result.ci_high) == wilson(1.0, 12)
    compared = compare_answers(np.zeros(12 * 5), ones, names, rng(), is_share=True)
    assert (compared.ci_low, compared.ci_high) == wilson(0.0, 12)
    assert (compared.delta_ci_low, compared.delta_ci_high) == tango(-1.0, 12)
    assert compared.delta_se == 0.0
    length = evaluate_answers(ones, names, rng())
    assert (length.ci_low, length.ci_high) == (1.0, 1.0), "a length is not bounded by 1"
