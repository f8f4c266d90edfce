"""Summary of a sweep: one row for each cell and metric, comparing steered cells with their baseline on the same items.

Cells are added in the order of the plan, so a baseline comes before the cells that are compared with it. Only baselines
are kept in memory, with the columns that their metrics need.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from jobs.cell import Cell, TaskRef
from jobs.metrics.base import Metric, SourcedMetric
from jobs.metrics.power import NO_VARIATION, minimum_detectable_effect
from jobs.metrics.result import RESTS_ON, MetricResult, too_few
from jobs.planning.search import DEFAULT_METRIC, Search
from jobs.results.best_factors import best_factors
from jobs.results.cell_table import CellTable
from jobs.results.metadata_keys import PARTIAL, read_metadata
from jobs.results.noise import NoiseFloor
from jobs.results.schema import EDIT, SUMMARY, cell_columns
from jobs.results.writer import Results
from jobs.statistics.significance import holm
from jobs.store.records import SweepRecord
from jobs.tasks.registry import task_of

NOTHING_CHANGED = "the intervention changed no neuron"
"""Note of a steered cell for whose target the neuron set has no neurons; its value is that of the unsteered model."""

_COLUMNS = frozenset(SUMMARY.names)
_ANSWER = ("doc_id", "answer")
"""What identifies each row in a cell: its item, and the number of its answer."""
_CONDITION = ("method", "selection", "random_seed", "factor", *EDIT)
_NEURON = ("neuron_layer", "neuron_index")
_FAMILY = ("task", "task_options", "mode", "metric", "rung", *_CONDITION, *_NEURON)
"""Rows that agree in these columns differ in their languages only; their p-values are corrected together."""


class SummaryBuilder:
    """Builds the rows of a summary from the cells of a sweep, one by one.

    Args:
        search: The search of the sweep, if it has one; fills the column `rung`.

    Attributes:
        qualities: The metric of the search, larger being better, of each steered cell that has one, by cell id.
    """

    def __init__(self, search: Search | None = None) -> None:
        self.qualities: dict[str, float] = {}
        self._search = search
        self._measured: list[tuple[dict[str, Any], TaskRef, Metric]] = []
        self._noise = NoiseFloor()
        self._baselines: dict[TaskRef, pa.Table] = {}

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The rows of the cells so far, with the columns of `jobs.results.schema.SUMMARY`.

        `p_holm` is corrected over all of these rows. `noise` is null for a repeat, which is what the noise is.
        """
        families: dict[tuple[Any, ...], list[dict[str, Any]]] = defaultdict(list)
        rows = [
            {**row, "p_holm": None, "noise": self._noise_of(row, task, metric)} for row, task, metric in self._measured
        ]
        for row in rows:
            if row["p_value"] is not None:
                families[tuple(row[name] for name in _FAMILY)].append(row)
        for family in families.values():
            for row, corrected in zip(family, holm([row["p_value"] for row in family]), strict=True):
                row["p_holm"] = corrected
        return rows

    def add(self, table: CellTable) -> None:
        """Add a cell. A sample that failed here or in the baseline counts in `failed` instead of `n`."""
        cell = table.cell
        metrics = task_of(cell.task).metrics
        columns = sorted({"doc_id", "answer"}.union(*(metric.columns for metric in metrics)))
        samples = table.table.select(columns).filter(pc.is_null(table.table["error"]))
        if cell.method is None:
            self._baselines[cell.task] = samples
        steered, baseline = _paired(samples, self._baselines.get(cell.task, samples.slice(0, 0)))
        if cell.method == "repeat":
            self._noise.add(cell, repeat=steered, baseline=baseline)
        evaluated = len(samples) if cell.method is None else len(steered)
        for metric in _with_sources(metrics, samples):
            if cell.method == "repeat" and "target_language" in metric.columns:
                continue  # a repeat has no target language; its noise floor has one for each (`jobs.results.noise`)
            rng = np.random.default_rng(cell.resampling_seed)
            result = metric.evaluate(samples, rng) if cell.method is None else metric.compare(steered, baseline, rng)
            if result is not None:
                result = result.finite().without_points()
                row = self._row(table, metric, result, failed=table.table.num_rows - evaluated)
                self._measured.append((row, cell.task, metric))
                self._note_quality(cell, metric, result)

    def _note_quality(self, cell: Cell, metric: Metric, result: MetricResult) -> None:
        if self._search is None or metric.name != self._search.metric:
            return
        if cell.intervention is not None and result.value is not None:
            self.qualities[cell.id] = self._search.quality(metric, result.value)

    def _noise_of(self, row: dict[str, Any], task: TaskRef, metric: Metric) -> float | None:
        compared = row["delta"] is not None and row["method"] != "repeat"
        return self._noise.floor(task, metric, row["target_language"]) if compared else None

    def _row(self, table: CellTable, metric: Metric, result: MetricResult, *, failed: int) -> dict[str, Any]:
        cell = table.cell
        unchanged = NOTHING_CHANGED if cell.method == "neurons" and not table.neurons else None
        has_interval = result.ci_low is not None or result.delta_ci_low is not None
        few = too_few(result.n) if has_interval and RESTS_ON not in (result.note or "") else None
        mde = minimum_detectable_effect(result)
        notes = [note for note in (unchanged, result.note, few) if note is not None]
        if result.delta is not None and mde is None and not notes:
            notes.append(NO_VARIATION)
        values = {name: value for name, value in vars(result).items() if name != "delta_se"}
        return {
            **{name: value for name, value in cell_columns(cell).items() if name in _COLUMNS},
            "metric": metric.name,
            "rung": None if self._search is None else self._search.rung(cell.task),
            "higher_is_better": metric.higher_is_better,
            "no_effect": metric.no_effect,
            "left_out": table.left_out,
            "failed": failed,
            "neurons": table.neurons,
            "spanned_joins": pc.sum(table.table["spanned_join"]).as_py(),
            **values,
            "mde": mde,
            "note": "; ".join(notes) or None,
        }


def _with_sources(metrics: Sequence[Metric], samples: pa.Table) -> Iterator[Metric]:
    """Yield each metric, followed by those for the sources of the samples."""
    for metric in metrics:
        yield metric
        if isinstance(metric, SourcedMetric):
            yield from metric.by_source(samples)


def _paired(samples: pa.Table, baseline: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Return the rows of the answers that are in both tables, in the order of the first."""
    if all(samples[column].equals(baseline[column]) for column in _ANSWER):  # as in most cells
        return samples, baseline
    baseline_rows = {answer: row for row, answer in enumerate(_answers(baseline))}
    pairs = [(row, baseline_rows[answer]) for row, answer in enumerate(_answers(samples)) if answer in baseline_rows]
    first, second = zip(*pairs, strict=True) if pairs else ((), ())
    return samples.take(pa.array(first, pa.int64())), baseline.take(pa.array(second, pa.int64()))


def _answers(samples: pa.Table) -> Iterator[tuple[str, int | None]]:
    """Yield what identifies each row in a cell: its item, and the number of its answer."""
    return zip(*(samples[column].to_pylist() for column in _ANSWER), strict=True)


def summary_json(results: Results, sweep: SweepRecord) -> dict[str, Any]:
    """Return the summary of a sweep as JSON; raise NotFound before the sweep has ended."""
    table = results.read_summary(sweep)
    rows = table.to_pylist()
    partial = read_metadata(table.schema).get(PARTIAL)
    return {
        "object": "sweep.summary",
        "sweep_id": sweep.id,
        **({} if partial is None else {"partial": json.loads(partial)}),
        "rows": rows,
        "best_factors": best_factors(rows, (sweep.spec.get("search") or {}).get("metric", DEFAULT_METRIC)),
    }


def summary_csv(results: Results, sweep: SweepRecord) -> str:
    """Return the summary of a sweep as CSV with a header; raise NotFound before the sweep has ended."""
    sink = pa.BufferOutputStream()
    pa_csv.write_csv(results.read_summary(sweep), sink)
    return str(sink.getvalue().to_pybytes(), "utf-8")
