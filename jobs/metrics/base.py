"""Interface of a metric: turns the samples of a cell into values of the summary."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
import pyarrow as pa

from jobs.metrics.result import MetricResult


class Metric(Protocol):
    """Turns the samples of a cell into one number with its interval, and compares it with the unsteered baseline.

    Both methods receive tables with the metric's `columns` (of `jobs.results.schema.CELL`), one row an item, without
    failed samples. Where a task asks for several answers to each item, there is a row for each answer, and the rows of
    an item share a `doc_id`. `rng` is seeded by the cell.

    Example:
        The mean of each sample's `score`, with a bootstrap interval and a paired test:

        >>> class MeanScore:
        ...     name, columns, higher_is_better, no_effect = "mean_score", ("score",), True, None
        ...
        ...     def evaluate(self, samples, rng):
        ...         return evaluate_mean(samples["score"].to_numpy(), rng)
        ...
        ...     def compare(self, steered, baseline, rng):
        ...         return compare_means(steered["score"].to_numpy(), baseline["score"].to_numpy(), rng)
    """

    @property
    def name(self) -> str:
        """The value of the summary's column `metric`."""
        ...

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that the metric reads."""
        ...

    @property
    def higher_is_better(self) -> bool | None:
        """Whether a larger value is an improvement; None if neither direction is one, as for a length."""
        ...

    @property
    def no_effect(self) -> float | None:
        """The value that an intervention without direction would have; None if that is the baseline's own value."""
        ...

    def evaluate(self, samples: pa.Table, rng: np.random.Generator) -> MetricResult | None:
        """Return the value of an unsteered cell; None for a metric that is undefined without a baseline."""
        ...

    def compare(self, steered: pa.Table, baseline: pa.Table, rng: np.random.Generator) -> MetricResult | None:
        """Return the value of a steered cell and its difference from the baseline; None if it is undefined for it.

        Args:
            steered: The samples of the steered cell.
            baseline: The unsteered samples of the same items, in the same order.
            rng: The source of the resamples.
        """
        ...


@runtime_checkable
class SourcedMetric(Protocol):
    """What a metric has that is also reported for each source of a cell's items."""

    def by_source(self, samples: pa.Table) -> tuple[Metric, ...]:
        """Return a metric for each source of the samples, named `<metric>,<source>`; none if there is only one."""
        ...
