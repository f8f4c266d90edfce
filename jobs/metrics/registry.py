"""The metrics by name: the built-in ones, and those of plug-ins."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import pyarrow as pa

from ampsweep.errors import UnknownName
from jobs.metrics.accuracy import Accuracy
from jobs.metrics.base import Metric
from jobs.metrics.corpus.corpus_score import BLEU_13A, BLEU_FLORES200, CHRF_PLUS
from jobs.metrics.corpus.language_penalty import CHRF_PLUS_IN_LANGUAGE
from jobs.metrics.fluency import LENGTH, REPETITION
from jobs.metrics.language_share import IN_DATA, IN_DATA_SCRIPT, IN_TARGET, IN_TARGET_SCRIPT, LFS
from jobs.metrics.mean import NLL, PERPLEXITY
from jobs.metrics.pass_rate import (
    IN_DATA_BY_LINE,
    IN_TARGET_BY_LINE,
    LCPR,
    LPR,
    TARGET_LCPR,
    TARGET_LPR,
    TARGET_WPR,
    WPR,
)
from jobs.metrics.result import MetricResult
from jobs.metrics.shift import Shift
from jobs.plugins import Plugin, find_plugin, installed_plugins
from jobs.sample import Sample

_BUILT_IN: tuple[Metric, ...] = (
    Accuracy(),
    Shift(),
    PERPLEXITY,
    NLL,
    BLEU_FLORES200,
    BLEU_13A,
    CHRF_PLUS,
    CHRF_PLUS_IN_LANGUAGE,
    IN_TARGET,
    IN_DATA,
    IN_TARGET_BY_LINE,
    IN_DATA_BY_LINE,
    IN_TARGET_SCRIPT,
    IN_DATA_SCRIPT,
    LFS,
    REPETITION,
    LENGTH,
    LPR,
    WPR,
    LCPR,
    TARGET_LPR,
    TARGET_WPR,
    TARGET_LCPR,
)
BUILT_IN_METRICS = {metric.name: metric for metric in _BUILT_IN}

COLUMNS = frozenset({"data_language", "target_language"} | {field.name for field in fields(Sample)})
"""The columns that a metric may read."""
_MEMBERS = tuple(name for name in vars(Metric) if not name.startswith("_"))


@dataclass(frozen=True)
class PluginMetric:
    """A metric of a plug-in. An exception in it becomes the `note` of its own row; the other rows stay."""

    metric: Metric
    plugin: Plugin

    @property
    def name(self) -> str:
        """The name of the plug-in."""
        return self.plugin.name

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that the metric reads."""
        return self.metric.columns

    @property
    def higher_is_better(self) -> bool | None:
        """Whether a larger value is an improvement."""
        return self.metric.higher_is_better

    @property
    def no_effect(self) -> float | None:
        """The value that an intervention without direction would have."""
        return self.metric.no_effect

    def evaluate(self, samples: pa.Table, rng: np.random.Generator) -> MetricResult | None:
        """Return the value of an unsteered cell, or why there is none."""
        try:
            return self.metric.evaluate(samples, rng)
        except Exception as error:  # noqa: BLE001  (a plug-in raises what it likes)
            return self._failed(samples, error)

    def compare(self, steered: pa.Table, baseline: pa.Table, rng: np.random.Generator) -> MetricResult | None:
        """Return the value of a steered cell and its difference from the baseline, or why there is none."""
        try:
            return self.metric.compare(steered, baseline, rng)
        except Exception as error:  # noqa: BLE001  (a plug-in raises what it likes)
            return self._failed(steered, error)

    def _failed(self, samples: pa.Table, error: Exception) -> MetricResult:
        return MetricResult(n=len(samples), note=f"{self.plugin} failed: {type(error).__name__}: {error}")


def metric_for(name: str) -> Metric:
    """Return a built-in metric, or one that a distribution registers as an entry point in `ampsweep.metrics`.

    A plug-in's task gets its metrics from this function.

    Raises:
        UnknownName: There is no such metric; the message lists the metrics.
        InvalidRequest: The plug-in cannot be used, or several distributions define the name.

    Example:
        >>> metric_for("accuracy").columns
        ('correct',)
    """
    plugin = find_plugin("metric", name, built_in=BUILT_IN_METRICS)
    if plugin is not None:
        return _load(plugin)
    if name not in BUILT_IN_METRICS:
        raise UnknownName("metric", name, [*BUILT_IN_METRICS, *installed_plugins("metric")])
    return BUILT_IN_METRICS[name]


def _load(plugin: Plugin) -> PluginMetric:
    metric = plugin.create()
    if missing := [member for member in _MEMBERS if not hasattr(metric, member)]:
        raise plugin.broken(f"it has no {', '.join(missing)}, which every metric has (jobs/metrics/base.py)")
    if metric.name != plugin.name:
        raise plugin.broken(f"its metric is named {metric.name!r}; it must be named as the entry point")
    if unknown := [column for column in metric.columns if column not in COLUMNS]:
        columns = ", ".join(sorted(COLUMNS))
        raise plugin.broken(f"it reads {', '.join(unknown)}, which is not a column of the samples; columns: {columns}")
    return PluginMetric(metric, plugin)
