from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest

from jobs.metrics.base import SourcedMetric
from jobs.metrics.lm_eval import LmEvalMetric
from jobs.metrics.lm_eval_group import group_aggregation, lm_eval_metric
from jobs.statistics.tango import tango
from jobs.statistics.wilson import wilson

RNG = np.random.default_rng
ANSWERS = {"a": [1.0, 0.0], "b": [1.0, 1.0, 1.0, 0.0, 1.0, 1.0]}
"""Shares of 1/2 and 5/6: 6/8 over the documents, 2/3 over the tasks."""


def samples(values: dict[str, list[float]], name: str = "acc") -> pa.Table:
    rows = [(f"{task}/{number}", value) for task, items in values.items() for number, value in enumerate(items)]
    return pa.table({"doc_id": [doc for doc, _ in rows], "measures": [json.dumps({name: value}) for _, value in rows]})


@pytest.mark.parametrize(("by_size", "expected"), [(True, 6 / 8), (False, 2 / 3)])
def test_a_group_averages_its_tasks_as_lm_eval_does(by_size: bool, expected: float) -> None:
    from lm_eval.api.metrics import aggregate_subtask_metrics

    metric = lm_eval_metric("acc", group_aggregation("mean", by_size=by_size))
    result = metric.evaluate(samples(ANSWERS), RNG(0))
    assert result.value == pytest.approx(expected)
    assert result.value == pytest.approx(aggregate_subtask_metrics([1 / 2, 5 / 6], [2, 6], by_size))
    assert result.n == 8
    assert result.ci_low is not None
    assert result.ci_high is not None
    assert result.ci_low < expected < result.ci_high


def test_a_difference_is_weighted_as_the_values_are() -> None:
    plain = {"a": [0.0, 0.0], "b": ANSWERS["b"]}
    results = [
        lm_eval_metric("acc", group_aggregation("mean", by_size=by_size)).compare(
            samples(ANSWERS), samples(plain), RNG(0)
        )
        for by_size in (True, False)
    ]
    assert [result.delta for result in results] == pytest.approx([1 / 8, 1 / 4])
    assert [result.baseline for result in results] == pytest.approx([5 / 8, 5 / 12])
    assert [result.p_value for result in results] == [1.0, 1.0]  # one changed document is no evidence
    (low, high) = results[1].delta_ci_low, results[1].delta_ci_high
    assert (low, high) == (0.0, 0.5)  # of the two documents of `a` each resample has none, one or both


def test_resamples_keep_the_number_of_documents_of_each_task() -> None:
    constant = {"a": [0.0] * 5, "b": [1.0] * 5}
    result = lm_eval_metric("acc", "by_size:mean").evaluate(samples(constant), RNG(0))
    assert (result.value, result.ci_low, result.ci_high) == (0.5, 0.5, 0.5)


@pytest.mark.parametrize(("aggregation", "items"), [("by_size:mean", 10), ("unweighted:mean", 2**2 / (1 / 8 + 1 / 2))])
def test_documents_that_are_all_right_have_an_interval_over_their_effective_number(
    aggregation: str, items: float
) -> None:
    right = samples({"a": [1.0] * 8, "b": [1.0] * 2})
    metric = lm_eval_metric("acc", aggregation)
    for result in (metric.evaluate(right, RNG(0)), metric.compare(right, right, RNG(0))):
        assert (result.ci_low, result.ci_high) == pytest.approx(wilson(1.0, items))


def test_documents_that_all_changed_alike_have_an_interval_over_their_effective_number() -> None:
    right, wrong = (samples({"a": [value] * 8, "b": [value] * 2}) for value in (1.0, 0.0))
    metric = lm_eval_metric("acc", "unweighted:mean")
    items = 2**2 / (1 / 8 + 1 / 2)
    for plain, delta in ((right, 0.0), (wrong, 1.0)):
        result = metric.compare(right, plain, RNG(0))
        assert (result.delta_ci_low, result.delta_ci_high) == pytest.approx(tango(delta, items))


def test_each_task_has_a_row_of_its_own() -> None:
    metric = lm_eval_metric("acc", "by_size:mean")
    assert isinstance(metric, SourcedMetric)
    parts = metric.by_source(samples(ANSWERS))
    assert [part.name for part in parts] == ["acc,a", "acc,b"]
    assert [part.higher_is_better for part in parts] == [True, True]
    for part, values in zip(parts, ANSWERS.values(), strict=True):
        result, other = (
            part.evaluate(samples(ANSWERS), RNG(0)),
            part.compare(samples(ANSWERS), samples(ANSWERS), RNG(0)),
        )
        assert result is not None
        assert other is not None
        assert result.n == len(values)
        assert result.value == pytest.approx(float(np.mean(values)))
        assert other.delta == 0.0


def test_other_aggregations_are_averaged_over_tasks_without_a_test() -> None:
    metric = lm_eval_metric("perplexity", "unweighted:perplexity")
    values = {"a": [-1.0, -3.0], "b": [-1.0] * 4}
    result = metric.compare(
        samples(values, "perplexity"), samples({"a": [-1.0] * 2, "b": [-1.0] * 4}, "perplexity"), RNG(0)
    )
    assert result.value == pytest.approx((np.exp(2) + np.exp(1)) / 2)
    assert result.delta == pytest.approx((np.exp(2) - np.exp(1)) / 2)
    assert result.p_value is None
    assert result.delta_ci_low is not None


def test_documents_without_a_value_do_not_count() -> None:
    table = pa.table({"doc_id": ["a/0", "a/1", "b/0"], "measures": ['{"acc": 1.0}', "{}", '{"acc": 0.0}']})
    result = lm_eval_metric("acc", "by_size:mean").evaluate(table, RNG(0))
    assert (result.n, result.value) == (2, 0.5)
    assert lm_eval_metric("acc", "by_size:mean").evaluate(table.slice(1, 1), RNG(0)).n == 0


def test_a_task_keeps_its_own_metric() -> None:
    assert lm_eval_metric("acc", "mean") == LmEvalMetric(name="acc", aggregation="mean")
