"""A metric of lm-eval: its values of the documents, aggregated as lm-eval does."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from jobs.metrics.mean import compare_means, evaluate_mean
from jobs.metrics.result import MetricResult
from jobs.statistics.bootstrap import Floats, interval

Aggregate = Callable[[list[Any]], float]
_NOT_FINITE = ("NaN", "Infinity", "-Infinity")
RESAMPLES = 200
"""Number of resamples for aggregations other than the mean, each of which is a call of lm-eval's function."""


@dataclass(frozen=True, kw_only=True)
class LmEvalMetric:
    """The metric `name` of the samples' `measures`, aggregated by lm-eval's function `aggregation`.

    Means are compared as other means are; a mean of values that are all 0 or 1 is a share. Other aggregations have
    bootstrap intervals but no test. Documents without a value of the metric do not count.
    """

    name: str
    aggregation: str
    no_effect: float | None = None
    columns: tuple[str, ...] = ("measures",)

    @property
    def higher_is_better(self) -> bool | None:
        """The direction in lm-eval's registry; None for a metric that a task defines itself."""
        return direction_of(self.name)

    def evaluate(self, samples: pa.Table, rng: np.random.Generator) -> MetricResult:
        """Return the aggregated value."""
        values = [value for value in self._values(samples) if value is not None]
        if not values:
            return MetricResult(n=0)
        if not self.aggregation:
            return MetricResult(n=len(values), note=f"the task aggregates {self.name} by a function of its own")
        if self.aggregation == "mean":
            return evaluate_mean(np.array(values, dtype=np.float64), rng, is_share=True)
        try:
            return _aggregated(values, aggregation_function(self.aggregation), rng)
        except (ValueError, ArithmeticError, ImportError) as error:
            return undefined_result(self.aggregation, len(values), error)

    def compare(self, steered: pa.Table, baseline: pa.Table, rng: np.random.Generator) -> MetricResult:
        """Return the aggregated value and its difference from the baseline's on the same documents."""
        both = zip(self._values(steered), self._values(baseline), strict=True)
        pairs = [(value, plain) for value, plain in both if value is not None and plain is not None]
        if not pairs or not self.aggregation:
            return self.evaluate(steered, rng)
        values, plain_values = [value for value, _ in pairs], [plain for _, plain in pairs]
        if self.aggregation == "mean":
            steered_values, baseline_values = (np.array(side, dtype=np.float64) for side in (values, plain_values))
            return compare_means(steered_values, baseline_values, rng, is_share=True)
        try:
            return _compared(values, plain_values, aggregation_function(self.aggregation), rng)
        except (ValueError, ArithmeticError, ImportError) as error:
            return undefined_result(self.aggregation, len(values), error)

    def _values(self, samples: pa.Table) -> list[Any]:
        return measured(samples, self.name)


def undefined_result(aggregation: str, count: int, error: Exception) -> MetricResult:
    """Return the result for `count` items whose values an aggregation cannot aggregate."""
    return MetricResult(n=count, note=f"lm-eval's {aggregation} is undefined for these items: {error}")


def direction_of(metric: str) -> bool | None:
    """Return whether a larger value is better by lm-eval's registry; None for a metric that a task defines itself."""
    from lm_eval.api import metrics  # noqa: F401  # fills the registry
    from lm_eval.api.registry import HIGHER_IS_BETTER_REGISTRY

    direction: bool | None = HIGHER_IS_BETTER_REGISTRY.get(metric.partition(",")[0], None)
    return direction


def measured(samples: pa.Table, metric: str) -> list[Any]:
    """Return the value of a metric for each sample; None for a document without one."""
    return [_with_numbers(json.loads(measures).get(metric)) for measures in samples["measures"].to_pylist()]


def measures_json(measures: Mapping[str, Any]) -> str:
    """Return the values of a document by metric as JSON, for `measured`.

    JSON has no number for a value that is infinite or not a number, as a perplexity may be: it is written as one of the
    texts `"Infinity"`, `"-Infinity"` and `"NaN"`.
    """
    return json.dumps(_without_numbers(measures), default=_plain, allow_nan=False)


def _plain(value: Any) -> Any:
    """Return a NumPy number or array in the form that JSON can represent."""
    return _without_numbers(value.tolist())


def _without_numbers(value: Any) -> Any:
    """Return a value with texts in place of the numbers that JSON does not have."""
    if isinstance(value, Mapping):
        return {key: _without_numbers(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_without_numbers(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def _with_numbers(value: Any) -> Any:
    """Return a value with the numbers that `_without_numbers` has replaced."""
    if isinstance(value, list):
        return [_with_numbers(inner) for inner in value]
    return float(value) if value in _NOT_FINITE else value


def _aggregated(values: list[Any], aggregate: Aggregate, rng: np.random.Generator) -> MetricResult:
    low, high = interval(np.array([aggregate(taken(values, drawn)) for drawn in resample_indices(len(values), rng)]))
    return MetricResult(n=len(values), value=aggregate(values), ci_low=low, ci_high=high)


def _compared(values: list[Any], plain: list[Any], aggregate: Aggregate, rng: np.random.Generator) -> MetricResult:
    draws = resample_indices(len(values), rng)
    pairs = np.array([(aggregate(taken(values, drawn)), aggregate(taken(plain, drawn))) for drawn in draws])
    result = MetricResult(n=len(values), value=aggregate(values), baseline=aggregate(plain))
    with np.errstate(invalid="ignore"):  # both may be infinite
        differences = pairs[:, 0] - pairs[:, 1]
    return with_intervals(result, pairs[:, 0], differences)


def with_intervals(result: MetricResult, resampled: Floats, differences: Floats) -> MetricResult:
    """Return a result of a value and a baseline with their difference, and with the intervals of resampled values."""
    assert result.value is not None
    assert result.baseline is not None
    (low, high), (delta_low, delta_high) = interval(resampled), interval(differences)
    delta = result.value - result.baseline
    return replace(result, ci_low=low, ci_high=high, delta=delta, delta_ci_low=delta_low, delta_ci_high=delta_high)


def aggregation_function(name: str) -> Aggregate:
    """Return lm-eval's aggregation with a name of its registry."""
    from lm_eval.api import metrics  # noqa: F401  # fills the registry
    from lm_eval.api.registry import get_aggregation

    aggregation = get_aggregation(name)
    return lambda values: float(aggregation(values))


def taken(values: list[Any], drawn: list[int]) -> list[Any]:
    """Return the values at the indices of a resample."""
    return [values[index] for index in drawn]


def resample_indices(count: int, rng: np.random.Generator) -> Iterator[list[int]]:
    """Yield the indices of the items of one resample at a time, `RESAMPLES` times."""
    for _ in range(RESAMPLES):
        drawn: list[int] = rng.integers(0, count, size=count).tolist()
        yield drawn
