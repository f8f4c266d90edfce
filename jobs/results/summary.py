"""A sweep's summary: one row a cell, each steered cell beside its unsteered baseline on the same items.

Cells are fed in the plan's order, a baseline before those compared with it; of each only two columns are kept.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from jobs.cell import TaskRef
from jobs.metrics.result import too_few
from jobs.metrics.significance import holm
from jobs.planning.search import Search
from jobs.results.cell_table import CellTable
from jobs.results.metadata_keys import PARTIAL, read_metadata
from jobs.results.schema import SUMMARY, cell_columns
from jobs.results.writer import Results
from jobs.store.records import SweepRecord
from jobs.tasks.registry import task_of

NOTHING_CHANGED = "the intervention changed no neuron"
"""The note of a steered cell for which the neuron set has no neurons: its value is that of the unsteered model."""

_TARGET = ("model", "task", "mode", "target_language", "op", "patch", "statistic", "weights", "layers")
_FAMILY = ("task", "mode", "metric", "selection", "op", "factor", "patch", "statistic", "weights", "layers", "rung")
"""Rows that agree in these differ in their languages: the p-values of one table."""


class SummaryBuilder:
    """Takes a sweep's cells one by one and makes `rows`, each with the columns of `jobs.results.schema.SUMMARY`.

    `rung` tells a cell's step of the search, as `jobs.planning.search.Search` does. `shifts` has the LSS of each
    steered cell that has one, by the cell's id.
    """

    def __init__(self, search: Search | None = None) -> None:
        self.shifts: dict[str, float] = {}
        self._search = search
        self._rows: list[dict[str, Any]] = []
        self._baselines: dict[TaskRef, pa.Table] = {}

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The rows of the cells so far, in their order; `p_holm` is over all of them."""
        families: dict[tuple[Any, ...], list[dict[str, Any]]] = defaultdict(list)
        rows = [{**row, "p_holm": None} for row in self._rows]
        for row in rows:
            if row["p_value"] is not None:
                families[tuple(row[name] for name in _FAMILY)].append(row)
        for family in families.values():
            for row, corrected in zip(family, holm([row["p_value"] for row in family]), strict=True):
                row["p_holm"] = corrected
        return rows

    def add(self, found: CellTable) -> None:
        """Count one cell. A sample that failed here or in the baseline is no part of `n`; `failed` counts those."""
        cell = found.cell
        metrics = task_of(cell.task).metrics
        columns = sorted({"doc_id"}.union(*(metric.columns for metric in metrics)))
        samples = found.table.filter(pc.is_null(found.table["error"])).select(columns)
        shared = {name: value for name, value in cell_columns(cell).items() if name in SUMMARY.names}
        if cell.intervention is None:
            self._baselines[cell.task] = samples
        baseline = self._baselines.get(cell.task, samples.slice(0, 0))
        steered, plain = _paired(samples, baseline)
        for metric in metrics:
            rng = np.random.default_rng(int(cell.id.removeprefix("cell_"), 16))
            unsteered = cell.intervention is None
            verdict = metric.evaluate(samples, rng) if unsteered else metric.compare(steered, plain, rng)
            if verdict is not None:
                failed = found.table.num_rows - verdict.n
                counts = {
                    "left_out": found.left_out,
                    "failed": failed,
                    "neurons": found.neurons,
                    "spanned_joins": pc.sum(found.table["spanned_join"]).as_py(),
                }
                place = {"metric": metric.name, "rung": None if self._search is None else self._search.rung(cell.task)}
                scale = {"higher_is_better": metric.higher_is_better, "no_effect": metric.no_effect}
                row = {**shared, **place, **scale, **counts, **asdict(verdict)}
                nothing_changed = NOTHING_CHANGED if not unsteered and not found.neurons else None
                few = too_few(verdict.n) if verdict.ci_low is not None and verdict.note is None else None
                row["note"] = "; ".join(filter(None, (nothing_changed, verdict.note, few))) or None
                self._rows.append(row)
                if metric.name == "lss" and verdict.value is not None:
                    self.shifts[cell.id] = verdict.value


def _paired(samples: pa.Table, baseline: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Return the rows of the items that stand in both, in the order of the first."""
    place = {doc_id: at for at, doc_id in enumerate(baseline["doc_id"].to_pylist())}
    pairs = [(at, place[doc_id]) for at, doc_id in enumerate(samples["doc_id"].to_pylist()) if doc_id in place]
    own, other = zip(*pairs, strict=True) if pairs else ((), ())
    return samples.take(pa.array(own, pa.int64())), baseline.take(pa.array(other, pa.int64()))


def best_factors(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return for each target language (and op, patch, statistic, weights, layers) the factor with the largest mean LSS.

    The mean is over base languages; `languages` says how many there were. Of equal ones the smaller factor wins.
    Controls do not count, nor do the rungs of a search before its last one, nor a target without neurons, for which
    nothing was changed.
    """
    means: dict[tuple[Any, ...], dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        changed = row["selection"] is None and row["rung"] is None and row["neurons"] > 0
        if row["metric"] == "lss" and changed and row["value"] is not None:
            means[tuple(row[name] for name in _TARGET)][row["factor"]].append(row["value"])
    best: list[dict[str, Any]] = []
    for target, factors in means.items():
        by_factor = {factor: round(sum(values) / len(values), 12) for factor, values in factors.items()}
        factor = min(by_factor, key=lambda at: (-by_factor[at], at))
        found = {"factor": factor, "value": by_factor[factor], "languages": len(factors[factor])}
        best.append({**dict(zip(_TARGET, target, strict=True)), **found})
    return best


def summary_json(results: Results, sweep: SweepRecord) -> dict[str, Any]:
    """Return a sweep's summary as JSON: its `rows` and `best_factors`; NotFound before the sweep has ended."""
    table = results.read_summary(sweep)
    rows = table.to_pylist()
    partial = read_metadata(table.schema).get(PARTIAL)
    return {
        "object": "sweep.summary",
        "sweep_id": sweep.id,
        **({} if partial is None else {"partial": json.loads(partial)}),
        "rows": rows,
        "best_factors": best_factors(rows),
    }


def summary_csv(results: Results, sweep: SweepRecord) -> str:
    """Return a sweep's summary as CSV with a header; NotFound before the sweep has ended."""
    sink = pa.BufferOutputStream()
    pa_csv.write_csv(results.read_summary(sweep), sink)
    return str(sink.getvalue().to_pybytes(), "utf-8")
