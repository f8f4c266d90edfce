"""Scores of stored texts (`ampsweep evaluate --out`) as rows of a summary, for the report."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ampsweep.errors import DamagedFile, InvalidRequest
from ampsweep.hashing import content_hash
from jobs.metrics.result import MetricResult
from jobs.results.schema import SUMMARY
from jobs.statistics.bootstrap import bootstrap_mean
from jobs.statistics.wilson import share_interval

HIGHER_IS_BETTER: Mapping[str, bool] = {"relevance": True, "answer_nll": False}
"""The metrics that the report reads from scores, and whether higher values are better."""
_SCORES = pa.schema(
    [("cell_id", pa.string()), ("doc_id", pa.string()), ("metric", pa.string()), ("value", pa.float64())]
)
"""The columns that are read of a file of scores."""
_OF_CELLS = tuple(name for name in SUMMARY.names if name not in ("metric", "value", "note"))


def evaluated_rows(samples: pa.Table, paths: Sequence[Path]) -> pa.Table:
    """Return a row for each cell and metric of `HIGHER_IS_BETTER`, in the schema of the summary.

    `value` is the mean over items, with its 95 % interval. Several answers to an item are averaged first.

    Args:
        samples: The samples of the sweep.
        paths: Files of `ampsweep evaluate --out`.

    Raises:
        DamagedFile: A file cannot be read.
        InvalidRequest: A file has no scores of the sweep's samples, or was changed (param "scores").
    """
    cells = {row["cell_id"]: row for row in _distinct_cells(samples)}
    by_item: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for path in paths:
        scored = 0
        for row in _scores(path):
            if row["cell_id"] in cells and row["value"] is not None and isfinite(row["value"]):
                by_item[row["metric"], row["cell_id"]][row["doc_id"]].append(row["value"])
                scored += 1
        if not scored:
            names = " or ".join(HIGHER_IS_BETTER)
            message = f"{path} has no {names} of this sweep's texts; write it with: ampsweep evaluate SWEEP --out"
            raise InvalidRequest(f"{message} {path.name} --metric {next(iter(HIGHER_IS_BETTER))}", param="scores")
    rows = [_row(cells[cell_id], metric, list(items.values())) for (metric, cell_id), items in by_item.items()]
    return pa.Table.from_pylist(rows, schema=SUMMARY)


def _distinct_cells(samples: pa.Table) -> Iterable[dict[str, Any]]:
    names = ["cell_id", *(name for name in _OF_CELLS if name in samples.column_names)]
    cells: list[dict[str, Any]] = samples.select(names).group_by(names).aggregate([]).to_pylist()
    return cells


def _scores(path: Path) -> list[dict[str, Any]]:
    """Return the scores in a file that the report shows."""
    try:
        file = pq.ParquetFile(path, page_checksum_verification=True)
        if not set(_SCORES.names) <= set(file.schema_arrow.names):
            return []
        table = file.read(columns=_SCORES.names)
    except (OSError, pa.ArrowException) as error:
        raise DamagedFile(f"{path} cannot be read: {error}") from error
    try:
        table = table.select(_SCORES.names).cast(_SCORES)
    except pa.ArrowException as error:
        message = f"{path} was changed after it was written: {error}; give the file as `ampsweep evaluate` wrote it"
        raise InvalidRequest(message, param="scores") from error
    return [row for row in table.to_pylist() if row["metric"] in HIGHER_IS_BETTER]


def _row(cell: Mapping[str, Any], metric: str, items: Sequence[Sequence[float]]) -> dict[str, Any]:
    values = np.array([np.mean(answers) for answers in items], dtype=np.float64)
    seed = int(content_hash([cell["cell_id"], metric])[:16], 16)
    bounds_of = share_interval if metric == "relevance" else bootstrap_mean  # relevance is from 0 to 1
    low, high = bounds_of(values, np.random.default_rng(seed))
    result = MetricResult(n=len(values), value=float(values.mean()), ci_low=low, ci_high=high).without_points()
    measured = {name: getattr(result, name) for name in ("n", "value", "ci_low", "ci_high", "note")}
    of_cell = {name: cell.get(name) for name in _OF_CELLS}
    return {**of_cell, **measured, "metric": metric, "higher_is_better": HIGHER_IS_BETTER[metric]}
