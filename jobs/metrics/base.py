"""Interface of a metric: turns the samples of a cell into values of the summary."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import pyarrow as pa

from jobs.metrics.result import MetricResult


class Metric(Protocol):
    """How the samples of a cell become one number.

    Both methods get tables with the metric's `columns` (of `jobs.results.schema.CELL`), of the samples that did not
    fail, one row an item; `rng` is seeded by the cell.
    """

    @property
    def name(self) -> str:
        """What stands in the summary's column `metric`."""
        ...

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns it reads."""
        ...

    @property
    def higher_is_better(self) -> bool | None:
        """Whether a larger value is an improvement; None where neither direction is one (a length, say)."""
        ...

    @property
    def no_effect(self) -> float | None:
        """The value of an intervention that has no direction; None where the baseline's own value says that."""
        ...

    def evaluate(self, samples: pa.Table, rng: np.random.Generator) -> MetricResult | None:
        """Return the value of an unsteered cell; None for a metric that says nothing without a comparison."""
        ...

    def compare(self, steered: pa.Table, baseline: pa.Table, rng: np.random.Generator) -> MetricResult:
        """Return the value of a steered cell and how it differs from the baseline: the same items in the same order."""
        ...
