"""The Parquet files of a cell and a sweep: columns and metadata keys."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from jobs.cell import Cell
from jobs.results.cell_table import CellTable
from jobs.results.finalization.partial import write_partial
from jobs.results.summary import SummaryBuilder
from jobs.results.writer import Results
from jobs.storage.local import LocalStorage
from jobs.store.protocol import Store
from jobs.store.records import SweepRecord
from tests.jobs.cluster import ManualClock, a_cell, a_sample, completed, quick_sql_store


def parquet() -> dict[str, Any]:
    """Return what the files of a sweep with one baseline and one steered cell are made of."""
    cells = [a_cell(), a_cell(factor=2.0)]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        store = quick_sql_store(root, ManualClock())
        try:
            results = Results(LocalStorage(root / "results"))
            sweep = store.create_sweep(name="n", spec={}, cells=cells, warnings=["w"])
            _complete(store, results, cells)
            tables = [results.read_cell(record) for record in store.list_cells(sweep.id).data]
            _publish(results, sweep, tables)
            write_partial(store, results, sweep, root / "partial")
        finally:
            store.close()
        kinds = {"cell": "results/cells/*", "samples": "results/*/*/results*", "summary": "results/*/*/summary*"}
        kinds |= {"partial samples": "partial/*/*/results*", "partial summary": "partial/*/*/summary*"}
        return {kind: _described(sorted(root.glob(pattern))[0]) for kind, pattern in kinds.items()}


def _complete(store: Store, results: Results, cells: list[Cell]) -> None:
    for lease in store.lease_cells("w", models=["tiny"], limit=len(cells), ttl=30.0):
        samples = [a_sample("a", score=1.0), a_sample("b", score=2.0)]
        file = results.write_cell(
            lease.cell, epoch=lease.epoch, samples=samples, left_out=0, neurons=3, versions={"engine": "1"}
        )
        store.report([completed(lease, file)])


def _publish(results: Results, sweep: SweepRecord, tables: list[CellTable]) -> None:
    builder = SummaryBuilder()
    for table in tables:
        builder.add(table)
    results.write_sweep(sweep, tables, epoch=1, search=None, failed={}, sources={})
    results.write_summary(sweep, builder.rows, epoch=1)


def _described(path: Path) -> dict[str, Any]:
    schema = pq.read_schema(path)
    columns = [f"{field.name}: {field.type}{'' if field.nullable else ' not null'}" for field in schema]
    return {"metadata": sorted(key.decode() for key in schema.metadata), "columns": columns}
