"""A sweep's summary: one row a cell, each steered cell beside its unsteered baseline on the same items.

Cells are fed in the plan's order, a baseline before those compared with it; of each only two columns are kept.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from jobs.cell import TaskRef
from jobs.cell_table import CellTable
from jobs.metrics import Verdict, accuracy, lss, paired_accuracy
from jobs.results import Results
from jobs.schema import SUMMARY, cell_columns
from jobs.tasks.registry import task_for

Scores = Mapping[str, float]
_TARGET = ("model", "task", "target_language", "op", "patch", "layers")


class SummaryBuilder:
    """Takes a sweep's cells one by one and makes `rows`, each with the columns of `jobs.schema.SUMMARY`."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self._baselines: dict[TaskRef, Scores] = {}

    def add(self, found: CellTable) -> None:
        """Count one cell. A sample that failed here or in the baseline is no part of `n`; `failed` counts those."""
        cell = found.cell
        metric = task_for(cell.task.name).metric
        scores = _scores(found.table, "score" if metric == "lss" else "correct")
        rng = np.random.default_rng(int(cell.id.removeprefix("cell_"), 16))
        if cell.intervention is None:
            self._baselines[cell.task] = scores
            if metric == "lss":
                return
            verdict = accuracy(np.array(list(scores.values()), bool), rng)
        elif (baseline := self._baselines.get(cell.task)) is None:
            verdict = Verdict(n=0)
        else:
            both = [doc_id for doc_id in scores if doc_id in baseline]
            steered, plain = np.array([scores[at] for at in both]), np.array([baseline[at] for at in both])
            verdict = lss(steered, plain, rng) if metric == "lss" else paired_accuracy(steered > 0, plain > 0, rng)
        shared = {name: value for name, value in cell_columns(cell).items() if name in SUMMARY.names}
        failed = found.table.num_rows - verdict.n
        counts = {"left_out": found.left_out, "failed": failed, "neurons": found.neurons}
        self.rows.append({**shared, "metric": metric, **counts, **asdict(verdict)})


def _scores(table: pa.Table, column: str) -> Scores:
    """Return the column by doc_id, without the samples that failed."""
    good = table.filter(pc.is_null(table["error"]))
    return dict(zip(good["doc_id"].to_pylist(), map(float, good[column].to_pylist()), strict=True))


def best_factors(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return for each target language (and op, patch, layers) the factor with the largest mean LSS over base languages.

    Of equal ones the smaller factor wins. Controls do not count, nor does a target without
    neurons, for which nothing was changed. `languages` says how many base languages there were.
    """
    means: dict[tuple[Any, ...], dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        changed = row["selection"] is None and row["neurons"] > 0
        if row["metric"] == "lss" and changed and row["value"] is not None:
            means[tuple(row[name] for name in _TARGET)][row["factor"]].append(row["value"])
    best: list[dict[str, Any]] = []
    for target, factors in means.items():
        by_factor = {factor: round(sum(values) / len(values), 12) for factor, values in factors.items()}
        factor = min(by_factor, key=lambda at: (-by_factor[at], at))
        found = {"factor": factor, "value": by_factor[factor], "languages": len(factors[factor])}
        best.append({**dict(zip(_TARGET, target, strict=True)), **found})
    return best


def summary_json(results: Results, sweep_id: str) -> dict[str, Any]:
    """Return a sweep's summary as JSON: its `rows` and `best_factors`; NotFound before the sweep has ended."""
    rows = results.read_summary(sweep_id).to_pylist()
    return {"object": "sweep.summary", "sweep_id": sweep_id, "rows": rows, "best_factors": best_factors(rows)}


def summary_csv(results: Results, sweep_id: str) -> str:
    """Return a sweep's summary as CSV with a header; NotFound before the sweep has ended."""
    sink = pa.BufferOutputStream()
    pa_csv.write_csv(results.read_summary(sweep_id), sink)
    return str(sink.getvalue().to_pybytes(), "utf-8")
