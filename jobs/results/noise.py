"""Noise floor of a sweep: the difference between the unsteered model and its repeat, which no intervention has made."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from jobs.cell import Cell, TaskRef
from jobs.metrics.base import Metric


class NoiseFloor:
    """Noise floors by task and metric, computed when they are asked for, each once."""

    def __init__(self) -> None:
        self._repeats: dict[TaskRef, tuple[pa.Table, pa.Table, int]] = {}
        self._floors: dict[tuple[TaskRef, str, str | None], float | None] = {}

    def add(self, cell: Cell, repeat: pa.Table, baseline: pa.Table) -> None:
        """Add a repeat.

        Args:
            cell: The cell of the repeat.
            repeat: Its samples.
            baseline: The samples of the baseline for the same items, in the same order.
        """
        self._repeats[cell.task] = repeat, baseline, cell.resampling_seed

    def floor(self, task: TaskRef, metric: Metric, target_language: str | None) -> float | None:
        """Return the absolute difference of the repeat from the baseline; None without a repeat or a difference.

        Args:
            task: The task.
            metric: The metric.
            target_language: The language that the compared cell is steered to, for metrics that depend on it.
        """
        if task not in self._repeats:
            return None
        key = task, metric.name, target_language if "target_language" in metric.columns else None
        if key not in self._floors:
            self._floors[key] = self._compute(task, metric, target_language)
        return self._floors[key]

    def _compute(self, task: TaskRef, metric: Metric, target_language: str | None) -> float | None:
        repeat, baseline, seed = self._repeats[task]
        if "target_language" in metric.columns:
            repeat, baseline = (_with_target(samples, target_language) for samples in (repeat, baseline))
        result = metric.compare(repeat, baseline, np.random.default_rng(seed))
        delta = None if result is None else result.finite().delta
        return None if delta is None else abs(delta)


def _with_target(samples: pa.Table, target_language: str | None) -> pa.Table:
    """Return the samples as those of a cell that is steered to a language."""
    column = samples.schema.get_field_index("target_language")
    targets = pa.repeat(pa.scalar(target_language, pa.string()), samples.num_rows)
    return samples.set_column(column, "target_language", targets)
