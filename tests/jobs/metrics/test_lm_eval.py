from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from jobs.metrics.lm_eval import LmEvalMetric, measured, measures_json
from jobs.metrics.mean import compare_means
from jobs.metrics.result import NOT_FINITE
from jobs.statistics.wilson import wilson

RNG = np.random.default_rng


def samples(name: str, values: list[Any]) -> pa.Table:
    return pa.table({"measures": [json.dumps({} if value is None else {name: value}) for value in values]})


def test_a_mean_is_compared_as_other_means_are() -> None:
    plain, steered = [0.0, 1.0, 0.0, 1.0], [1.0, 1.0, 0.0, 1.0]
    result = LmEvalMetric(name="acc", aggregation="mean").compare(
        samples("acc", steered), samples("acc", plain), RNG(1)
    )
    assert result == compare_means(np.array(steered), np.array(plain), RNG(1), is_share=True)
    assert (result.ci_low, result.ci_high) == wilson(0.75, 4)
    assert (result.value, result.baseline) == (0.75, 0.5)


@pytest.mark.parametrize(
    ("name", "higher_is_better"),
    [("acc", True), ("exact_match,strict-match", True), ("word_perplexity", False), ("a_metric_of_ones_own", None)],
)
def test_the_direction_is_the_one_in_lm_evals_registry(name: str, higher_is_better: bool | None) -> None:
    assert LmEvalMetric(name=name, aggregation="mean").higher_is_better is higher_is_better


def test_other_aggregations_are_those_of_lm_eval_with_intervals_and_no_test() -> None:
    pairs = [(-10.0, 4), (-6.0, 4), (-8.0, 2)]
    metric = LmEvalMetric(name="word_perplexity", aggregation="weighted_perplexity")
    result = metric.compare(samples(metric.name, pairs), samples(metric.name, [(-5.0, 4)] * 3), RNG(0))
    assert result.value == pytest.approx(np.exp(24 / 10))
    assert result.baseline == pytest.approx(np.exp(5 / 4))
    assert result.delta == pytest.approx(np.exp(2.4) - np.exp(1.25))
    assert result.ci_low is not None
    assert result.ci_high is not None
    assert result.ci_low < np.exp(2.4) < result.ci_high
    assert result.p_value is None
    assert metric.evaluate(samples(metric.name, pairs), RNG(0)).value == result.value


def test_documents_without_a_value_do_not_count() -> None:
    metric = LmEvalMetric(name="acc", aggregation="mean")
    assert metric.evaluate(samples("acc", [1.0, None, 0.0]), RNG(0)).n == 2
    assert metric.compare(samples("acc", [1.0, None, 0.0]), samples("acc", [1.0, 1.0, None]), RNG(0)).n == 1
    assert metric.evaluate(samples("acc", [None]), RNG(0)).n == 0


@pytest.mark.parametrize(
    ("aggregation", "values", "note"),
    [("", [1.0], "by a function of its own"), ("weighted_perplexity", [(-1.0, 0)], "is undefined for these items")],
)
def test_values_that_cannot_be_aggregated_give_a_note(aggregation: str, values: list[Any], note: str) -> None:
    metric = LmEvalMetric(name="odd", aggregation=aggregation)
    for result in (
        metric.evaluate(samples("odd", values), RNG(0)),
        metric.compare(samples("odd", values), samples("odd", values), RNG(0)),
    ):
        assert (result.n, result.value) == (1, None)
        assert result.note is not None
        assert note in result.note


def test_values_that_are_no_numbers_are_valid_json_and_read_back() -> None:
    values: dict[str, Any] = {
        "nan": math.nan,
        "loss": math.inf,
        "pair": (-math.inf, np.int64(3)),
        "single": np.float32(-math.inf),
        "array": np.array([math.nan, 1.5]),
        "acc": 1.0,
        "text": "a",
    }
    text = measures_json(values)
    assert json.loads(text, parse_constant=pytest.fail)["array"] == ["NaN", 1.5]
    table = pa.table({"measures": [text]})
    for name, value in values.items():
        (read,) = measured(table, name)
        np.testing.assert_equal(read, list(value) if name in ("pair", "array") else value)
    assert measures_json({"acc": 1.0, "pair": (-2.5, 3)}) == '{"acc": 1.0, "pair": [-2.5, 3]}'


@pytest.mark.parametrize(
    ("aggregation", "value", "numbers"),
    [("mean", math.nan, [1.0, 0.0]), ("perplexity", -math.inf, [-1.0, -2.0]), ("mean", math.inf, [1.0, 2.0])],
)
def test_a_value_that_is_no_number_leaves_a_note_and_is_not_passed_over(
    aggregation: str, value: float, numbers: list[float]
) -> None:
    metric = LmEvalMetric(name="odd", aggregation=aggregation)
    steered, baseline = (
        pa.table({"measures": [measures_json({"odd": one}) for one in (*numbers, last)]}) for last in (value, 0.0)
    )
    for result in (metric.evaluate(steered, RNG(0)), metric.compare(steered, baseline, RNG(0))):
        finite = result.finite()
        assert (finite.n, finite.value) == (3, None)
        assert finite.note is not None
        assert NOT_FINITE in finite.note
