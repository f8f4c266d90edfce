"""The files a sweep leaves: a Parquet a cell, and once it has ended its samples and its summary.

    <folder>/cells/<cell id>.<epoch>.parquet
    <folder>/sweeps/<sweep id>/results.parquet, summary.parquet

Every file appears whole or not at all. A cell's file is named by its lease's epoch, so a late writer spoils nobody's;
it counts once the store knows it. What is read is checked against what was published. Knows no store.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ampsweep.canonical import canonical_json
from ampsweep.errors import DamagedFile, NotFound
from ampsweep.files import atomic_write, sync_folder
from jobs.cell import Cell
from jobs.cell_table import CellTable, from_bytes, to_table
from jobs.sample import Sample
from jobs.schema import SAMPLES, SUMMARY, WRITING
from jobs.store.records import CellFile, CellRecord, SweepRecord

RESULTS = "results.parquet"
SUMMARY_FILE = "summary.parquet"
_SWEEP_ID = re.compile(r"[0-9A-Za-z_-]{1,100}")
_ROW_GROUP = 65_536


class Results:
    """The results below one folder."""

    def __init__(self, folder: Path) -> None:
        self._cells = folder / "cells"
        self._sweeps = folder / "sweeps"
        self._cells.mkdir(parents=True, exist_ok=True)
        self._sweeps.mkdir(exist_ok=True)
        sync_folder(folder)

    def write_cell(
        self,
        cell: Cell,
        *,
        epoch: int,
        samples: Sequence[Sample],
        left_out: int,
        neurons: int,
        versions: Mapping[str, str],
    ) -> CellFile:
        """Publish a cell's samples as `<cell id>.<epoch>.parquet`; the store is to be told what this returns.

        `left_out` is the number of items the task left out, `neurons` of those the intervention changed.
        """
        table = to_table(cell, epoch=epoch, samples=samples, left_out=left_out, neurons=neurons, versions=versions)
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, **WRITING)
        content = sink.getvalue().to_pybytes()
        target = self._cells / f"{cell.id}.{epoch}.parquet"
        with atomic_write(target) as path:
            path.write_bytes(content)
        return CellFile(name=target.name, rows=table.num_rows, sha256=hashlib.sha256(content).hexdigest())

    def read_cell(self, record: CellRecord) -> CellTable:
        """Return a completed cell's samples.

        Raises DamagedFile where the file is lost, or does not hold what was published: its bytes, rows and cell.
        """
        assert record.file is not None
        try:
            content = (self._cells / record.file).read_bytes()
        except OSError as error:
            raise DamagedFile(f"{record.file} cannot be read: {error.strerror}") from error
        if hashlib.sha256(content).hexdigest() != record.sha256:
            raise DamagedFile(f"{record.file} does not have the bytes that were published")
        found = from_bytes(content, record.file)
        if found.table.num_rows != record.rows or found.cell.id != record.id:
            raise DamagedFile(f"{record.file} does not hold the {record.rows} rows of {record.id}")
        return found

    def write_sweep(
        self,
        sweep: SweepRecord,
        cells: Iterable[CellTable],
        *,
        failed: Mapping[str, str],
        versions: Sequence[Mapping[str, str]],
    ) -> Path:
        """Publish a sweep's samples, cell after cell; memory holds one row group at a time.

        The metadata have the spec, `versions` (of all that computed the cells) and `failed` (the errors of the cells
        without samples).
        """
        metadata = {
            "ampsweep.sweep_id": sweep.id,
            "ampsweep.spec": canonical_json(sweep.spec),
            "ampsweep.versions": canonical_json(list(versions)),
            "ampsweep.failed_cells": canonical_json(dict(failed)),
        }
        schema = SAMPLES.with_metadata(metadata)
        target = self._folder(sweep.id) / RESULTS
        with atomic_write(target) as path, pq.ParquetWriter(path, schema, **WRITING) as writer:
            waiting: list[pa.Table] = []
            for cell in cells:
                ids = pa.repeat(pa.scalar(sweep.id, pa.string()), cell.table.num_rows)
                waiting.append(cell.table.add_column(0, SAMPLES.field(0), ids).cast(schema))
                if sum(table.num_rows for table in waiting) >= _ROW_GROUP:
                    writer.write_table(pa.concat_tables(waiting))
                    waiting = []
            if waiting:
                writer.write_table(pa.concat_tables(waiting))
        return target

    def write_summary(self, sweep: SweepRecord, rows: Sequence[Mapping[str, object]]) -> Path:
        """Publish a sweep's summary, one row a cell that has a value."""
        table = pa.Table.from_pylist([dict(row) for row in rows], schema=SUMMARY)
        metadata = {"ampsweep.sweep_id": sweep.id, "ampsweep.spec": canonical_json(sweep.spec)}
        target = self._folder(sweep.id) / SUMMARY_FILE
        with atomic_write(target) as path:
            pq.write_table(table.replace_schema_metadata(metadata), path, **WRITING)
        return target

    def results_path(self, sweep_id: str) -> Path:
        """Return the file of a sweep's samples; NotFound before the sweep has ended."""
        return self._published(sweep_id, RESULTS)

    def summary_path(self, sweep_id: str) -> Path:
        """Return the file of a sweep's summary; NotFound before the sweep has ended."""
        return self._published(sweep_id, SUMMARY_FILE)

    def read_summary(self, sweep_id: str) -> pa.Table:
        """Return a sweep's summary; NotFound before the sweep has ended, DamagedFile where it cannot be read."""
        path = self.summary_path(sweep_id)
        try:
            return pq.ParquetFile(path, page_checksum_verification=True).read()
        except (OSError, pa.ArrowException) as error:
            raise DamagedFile(f"the summary of {sweep_id} cannot be read: {error}") from error

    def _folder(self, sweep_id: str) -> Path:
        folder = self._sweeps / sweep_id
        folder.mkdir(exist_ok=True)
        sync_folder(self._sweeps)
        return folder

    def _published(self, sweep_id: str, name: str) -> Path:
        path = self._sweeps / sweep_id / name
        if not _SWEEP_ID.fullmatch(sweep_id) or not path.is_file():
            raise NotFound(f"sweep {sweep_id} has no {name.removesuffix('.parquet')} yet")
        return path
