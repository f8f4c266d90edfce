"""A metric of a group of lm-eval: the values of its tasks, aggregated as the group's configuration says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.metrics.lm_eval import (
    LmEvalMetric,
    aggregation_function,
    direction_of,
    measured,
    resample_indices,
    taken,
    undefined_result,
    with_intervals,
)
from jobs.metrics.result import MetricResult
from jobs.statistics.bootstrap import Floats, interval, is_point, resampled_means
from jobs.statistics.significance import cohens_dz, sign_flip
from jobs.statistics.tango import widened
from jobs.statistics.wilson import at_bound, is_binary

_BY_SIZE, _EQUAL = "by_size:", "unweighted:"
"""Prefixes of the aggregation of a group's metric."""

Pairs = list[tuple[Any, Any]]
"""The values of the documents of one task: steered, and of the baseline or None without one."""


def group_aggregation(aggregation: str, *, by_size: bool) -> str:
    """Return the name of an aggregation over tasks that each aggregate their documents by `aggregation`."""
    return (_BY_SIZE if by_size else _EQUAL) + aggregation


def lm_eval_metric(name: str, aggregation: str) -> LmEvalMetric | LmEvalGroupMetric:
    """Return the metric of a task or, for an aggregation of `group_aggregation`, of a group."""
    for prefix in (_BY_SIZE, _EQUAL):
        if aggregation.startswith(prefix):
            tasks = LmEvalMetric(name=name, aggregation=aggregation.removeprefix(prefix))
            return LmEvalGroupMetric(tasks=tasks, by_size=prefix == _BY_SIZE)
    return LmEvalMetric(name=name, aggregation=aggregation)


@dataclass(frozen=True, kw_only=True)
class LmEvalGroupMetric:
    """The mean over the tasks of a group of a metric, as lm-eval's `Group.aggregate` computes it.

    A task counts by the number of its documents, or as much as any other. Resamples draw the documents of each task
    separately. Means have a sign-flip test, other aggregations have none. The id of a sample is `<task>/<number>`.

    Attributes:
        tasks: The metric of each task.
        by_size: Whether a task counts by the number of its documents.
    """

    tasks: LmEvalMetric
    by_size: bool
    no_effect: float | None = None
    columns: tuple[str, ...] = ("doc_id", "measures")

    @property
    def name(self) -> str:
        """The name of the metric in each task."""
        return self.tasks.name

    @property
    def higher_is_better(self) -> bool | None:
        """The direction in lm-eval's registry."""
        return direction_of(self.name)

    def by_source(self, samples: pa.Table) -> tuple[TaskOfGroupMetric, ...]:
        """Return the metric of each task of the group."""
        names = dict.fromkeys(map(task_of_doc, samples["doc_id"].to_pylist()))
        return tuple(TaskOfGroupMetric(metric=self.tasks, task=name) for name in names)

    def evaluate(self, samples: pa.Table, rng: np.random.Generator) -> MetricResult:
        """Return the aggregated value."""
        return self._result(self._pairs(samples, None), rng, compared=False)

    def compare(self, steered: pa.Table, baseline: pa.Table, rng: np.random.Generator) -> MetricResult:
        """Return the aggregated value and its difference from the baseline's on the same documents."""
        return self._result(self._pairs(steered, baseline), rng, compared=True)

    def _pairs(self, samples: pa.Table, baseline: pa.Table | None) -> dict[str, Pairs]:
        """Return the values of each task's documents, without documents that lack one."""
        values = measured(samples, self.name)
        plain = [None] * len(values) if baseline is None else measured(baseline, self.name)
        pairs: dict[str, Pairs] = {}
        for doc_id, *pair in zip(samples["doc_id"].to_pylist(), values, plain, strict=True):
            if pair[0] is not None and (baseline is None or pair[1] is not None):
                pairs.setdefault(task_of_doc(doc_id), []).append((pair[0], pair[1]))
        return pairs

    def _result(self, pairs: Mapping[str, Pairs], rng: np.random.Generator, *, compared: bool) -> MetricResult:
        count = sum(map(len, pairs.values()))
        if not count:
            return MetricResult(n=0)
        shares = [len(values) / count if self.by_size else 1 / len(pairs) for values in pairs.values()]
        strata = _Strata(list(pairs.values()), np.array(shares), self.tasks.aggregation)
        try:
            return strata.compare(rng) if compared else strata.evaluate(rng)
        except (ValueError, ArithmeticError, ImportError) as error:
            return undefined_result(self.tasks.aggregation, count, error)


@dataclass(frozen=True, kw_only=True)
class TaskOfGroupMetric:
    """A metric of one task of a group, named `<metric>,<task>`."""

    metric: LmEvalMetric
    task: str
    no_effect: float | None = None
    columns: tuple[str, ...] = ("doc_id", "measures")

    @property
    def name(self) -> str:
        """The name of the metric and that of the task."""
        return f"{self.metric.name},{self.task}"

    @property
    def higher_is_better(self) -> bool | None:
        """The direction in lm-eval's registry."""
        return self.metric.higher_is_better

    def evaluate(self, samples: pa.Table, rng: np.random.Generator) -> MetricResult:
        """Return the aggregated value of the task."""
        return self.metric.evaluate(self._of_task(samples), rng)

    def compare(self, steered: pa.Table, baseline: pa.Table, rng: np.random.Generator) -> MetricResult:
        """Return the aggregated value of the task and its difference from the baseline's."""
        return self.metric.compare(self._of_task(steered), self._of_task(baseline), rng)

    def _of_task(self, samples: pa.Table) -> pa.Table:
        return samples.filter(pc.starts_with(samples["doc_id"], f"{self.task}/"))


def task_of_doc(doc_id: str) -> str:
    """Return the task in the id of a document of a group, `<task>/<number>`."""
    return doc_id.rpartition("/")[0]


class _Strata:
    """The documents of several tasks, whose aggregated values are averaged with the weights `shares`."""

    def __init__(self, tasks: Sequence[Pairs], shares: Floats, aggregation: str) -> None:
        self._tasks = tasks
        self._shares = shares
        self._is_mean = aggregation == "mean"
        self._aggregate = aggregation_function(aggregation)
        self._count = sum(map(len, tasks))

    def evaluate(self, rng: np.random.Generator) -> MetricResult:
        low, high = self._widened(*interval(self._resampled(rng)[0]))
        return MetricResult(n=self._count, value=self._value(0), ci_low=low, ci_high=high)

    def compare(self, rng: np.random.Generator) -> MetricResult:
        values, differences = self._resampled(rng, compared=True)
        result = MetricResult(n=self._count, value=self._value(0), baseline=self._value(1))
        result = with_intervals(result, values, differences)
        low, high = self._widened(result.ci_low, result.ci_high)
        result = replace(result, ci_low=low, ci_high=high)
        if not self._is_mean:
            return result
        result = self._with_paired_interval(result)
        weighted = np.concatenate(
            [
                np.array([steered - plain for steered, plain in pairs], np.float64) * share * self._count / len(pairs)
                for pairs, share in zip(self._tasks, self._shares, strict=True)
            ]
        )
        return replace(result, p_value=sign_flip(weighted, rng), effect=cohens_dz(weighted))

    def _widened(self, low: float | None, high: float | None) -> tuple[float | None, float | None]:
        """Return Wilson's interval, over the effective number of documents, if all of them are 0 or all are 1."""
        distinct = {float(steered) for pairs in self._tasks for steered, _ in pairs} if self._is_mean else set()
        return at_bound(distinct.pop(), self._effective_count, low, high) if len(distinct) == 1 else (low, high)

    def _with_paired_interval(self, result: MetricResult) -> MetricResult:
        """Return a result whose interval of the difference is Tango's, if no document changed or all did alike."""
        low, high = result.delta_ci_low, result.delta_ci_high
        assert low is not None
        assert high is not None
        if not is_point(low, high):
            return result
        if is_binary(np.array([value for pairs in self._tasks for pair in pairs for value in pair], np.float64)):
            low, high = widened(low, high, self._effective_count)
        return replace(result, delta_ci_low=low, delta_ci_high=high, delta_se=0.0)

    @property
    def _effective_count(self) -> float:
        """The number of documents that would say as much, if all had the same weight."""
        sizes = np.array([len(pairs) for pairs in self._tasks])
        return 1 / float((self._shares**2 / sizes).sum())

    def _value(self, side: int) -> float:
        return float(self._shares @ [self._aggregate([pair[side] for pair in pairs]) for pairs in self._tasks])

    def _resampled(self, rng: np.random.Generator, *, compared: bool = False) -> tuple[Floats, Floats]:
        """Return the values of resamples and, if compared, their differences from the baseline's."""
        parts = [self._of_task(pairs, rng, compared=compared) for pairs in self._tasks]
        values, differences = (np.stack(side) for side in zip(*parts, strict=True))
        return self._shares @ values, self._shares @ differences

    def _of_task(self, pairs: Pairs, rng: np.random.Generator, *, compared: bool) -> tuple[Floats, Floats]:
        values = [value for value, _ in pairs]
        plain = [plain for _, plain in pairs] if compared else values
        if self._is_mean:
            array = np.array(values, np.float64)
            means = resampled_means(array, rng)
            return means, resampled_means(array - np.array(plain, np.float64), rng) if compared else means
        drawn = [
            (self._aggregate(taken(values, d)), self._aggregate(taken(plain, d)))
            for d in resample_indices(len(values), rng)
        ]
        resampled = np.array(drawn, np.float64)
        return resampled[:, 0], resampled[:, 0] - resampled[:, 1]
