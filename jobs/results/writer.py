"""The files a sweep leaves: a Parquet a cell, and once it has ended its samples and its summary.

    cells/<cell id>.<epoch>.parquet
    sweeps/<sweep id>/results.<epoch>.parquet, summary.<epoch>.parquet

Every file appears whole or not at all. It is named by the epoch of the lease under which it was written, so a late
writer spoils nobody's; it counts once the store knows it. What is read or served is checked against what was published.
Knows no store.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ampsweep.errors import DamagedFile, InvalidRequest, NotFound, Unavailable
from ampsweep.hashing import canonical_json
from ampsweep.version import __version__
from jobs.cell import Cell
from jobs.planning.search import Search
from jobs.results import metadata_keys as keys
from jobs.results.cell_table import CellTable, from_bytes, to_table
from jobs.results.schema import SAMPLES, SUMMARY, WRITING
from jobs.sample import Sample
from jobs.storage.protocol import Storage, StoredFile
from jobs.store.records import CellFile, CellRecord, SweepRecord

RESULTS = "results"
SUMMARY_FILE = "summary"
_SWEEP_FILE = re.compile(rf"sweeps/([^/]+)/(?:{RESULTS}|{SUMMARY_FILE})(?:\.(\d+))?\.parquet")
_ROW_GROUP = 65_536
_TAIL = 8
"""A Parquet file ends with the length of its footer, in 4 bytes (little-endian), and `PAR1`."""


@dataclass(frozen=True, kw_only=True)
class Published:
    """A file of a sweep, and the SHA-256 of what was written."""

    file: StoredFile
    sha256: str


@dataclass(frozen=True, kw_only=True)
class SweepFileName:
    """A sweep's file as it lies there; no epoch is in the name of one that was written before sweeps were leased."""

    name: str
    sweep_id: str
    epoch: int | None


class Results:
    """The results in one storage."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._checked: dict[str, tuple[str, str]] = {}  # of each file found whole: its mark then, and its hash

    @property
    def root(self) -> str:
        """Where they are, as `open_storage` takes it."""
        return self._storage.root

    def probe(self) -> None:
        """Publish and remove a small file; Unavailable where that fails."""
        try:
            self._storage.check()
        except InvalidRequest as error:
            raise Unavailable(error.message) from error

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

        `left_out` is the number of items the task left out, `neurons` of those the intervention changed. Raises
        Unavailable where the disk is full or cannot be written to: that may pass.
        """
        table = to_table(cell, epoch=epoch, samples=samples, left_out=left_out, neurons=neurons, versions=versions)
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, **WRITING)
        content = sink.getvalue().to_pybytes()
        name = f"{cell.id}.{epoch}.parquet"
        try:
            with self._storage.writing(_cell_file(name)) as path:
                path.write_bytes(content)
        except OSError as error:
            reason = error.strerror or error
            raise Unavailable(f"results cannot be written below {self._storage.root}: {reason}") from error
        errors = [sample.error for sample in samples if sample.error is not None]
        return CellFile(
            name=name,
            rows=table.num_rows,
            sha256=hashlib.sha256(content).hexdigest(),
            failed_samples=len(errors),
            sample_error=next(iter(errors), None),
        )

    def read_cell(self, record: CellRecord) -> CellTable:
        """Return a completed cell's samples.

        Raises DamagedFile where the file is lost, or does not hold what was published: its bytes, rows and cell;
        Unavailable where the storage is out of reach.
        """
        assert record.file is not None
        try:
            content = self._storage.read(_cell_file(record.file))
        except NotFound:
            raise DamagedFile(f"{record.file} is lost") from None
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
        epoch: int,
        search: Search | None,
        failed: Mapping[str, str],
        sources: Mapping[str, object],
        extra_metadata: Callable[[], Mapping[str, str]] = dict,
    ) -> Published:
        """Publish a sweep's samples, cell after cell; memory holds one row group at a time.

        The metadata also have the spec, the distinct versions that computed the cells, and the warnings of the plan.
        Nothing is published if `cells` raises.

        Args:
            sweep: The sweep.
            cells: The samples of its completed cells.
            epoch: The epoch of the lease on the sweep, which names the file.
            search: The search of the sweep, if it has one; fills the column `rung`.
            failed: The error of each failed cell, by its id, for the metadata.
            sources: The provenance of the answers (`jobs.results.assembly.sources_of`), for the metadata.
            extra_metadata: Called when all cells are read; returns further metadata.
        """
        versions: dict[str, Mapping[str, str]] = {}
        target = self._file(sweep.id, RESULTS, epoch)
        with self._storage.writing(target.name) as path:
            with pq.ParquetWriter(path, SAMPLES, **WRITING) as writer:
                waiting: list[pa.Table] = []
                for cell in cells:
                    versions.setdefault(canonical_json(cell.versions), cell.versions)
                    own = {"sweep_id": sweep.id, "rung": None if search is None else search.rung(cell.cell.task)}
                    waiting.append(_of_sweep(cell.table, own, SAMPLES))
                    if sum(table.num_rows for table in waiting) >= _ROW_GROUP:
                        writer.write_table(pa.concat_tables(waiting))
                        waiting = []
                if waiting:
                    writer.write_table(pa.concat_tables(waiting))
            metadata = {
                **_about(sweep),
                **extra_metadata(),
                keys.VERSIONS: canonical_json(list(versions.values())),
                keys.FAILED_CELLS: canonical_json(dict(failed)),
                keys.SOURCES: canonical_json(dict(sources)),
                keys.WARNINGS: canonical_json(list(sweep.warnings)),
            }
            _replace_footer(path, SAMPLES.with_metadata(metadata))
            return Published(file=target, sha256=_sha256(path))

    def write_summary(
        self,
        sweep: SweepRecord,
        rows: Sequence[Mapping[str, object]],
        *,
        epoch: int,
        extra_metadata: Callable[[], Mapping[str, str]] = dict,
    ) -> Published:
        """Publish a sweep's summary, one row a cell that has a value."""
        table = pa.Table.from_pylist([dict(row) for row in rows], schema=SUMMARY)
        metadata = {**_about(sweep), **extra_metadata()}
        target = self._file(sweep.id, SUMMARY_FILE, epoch)
        with self._storage.writing(target.name) as path:
            pq.write_table(table.replace_schema_metadata(metadata), path, **WRITING)
            return Published(file=target, sha256=_sha256(path))

    def check_sweep(self, sweep: SweepRecord) -> None:
        """Raise DamagedFile where the files of an ended sweep are lost, or are not those that were published.

        A file is read once, and again when its storage says that it has changed.
        """
        if sweep.files is None:
            raise DamagedFile(f"the files of sweep {sweep.id} are not known")
        for name, sha256 in ((RESULTS, sweep.files.samples), (SUMMARY_FILE, sweep.files.summary)):
            file = self._file(sweep.id, name, sweep.files.epoch)
            try:
                seen = file.stat().etag, sha256
                if self._checked.get(file.name) == seen:
                    continue
                with file.open() as opened:
                    found = hashlib.file_digest(opened, "sha256").hexdigest()
            except NotFound:
                raise DamagedFile(f"{name} of sweep {sweep.id} is lost") from None
            except OSError as error:
                raise DamagedFile(f"{name} of sweep {sweep.id} cannot be read: {error}") from error
            if found != sha256:
                raise DamagedFile(f"{name} of sweep {sweep.id} does not have the bytes that were published")
            self._checked[file.name] = seen

    def cell_names(self) -> list[str]:
        """Return the names of all cells' files."""
        return [name.removeprefix("cells/") for name in self._storage.names("cells")]

    def delete_cell(self, name: str) -> None:
        """Remove a cell's file, if it is there."""
        self._storage.delete(_cell_file(name))

    def sweep_files(self) -> list[SweepFileName]:
        """Return the names of all sweeps' files."""
        return [
            SweepFileName(name=name, sweep_id=match[1], epoch=None if match[2] is None else int(match[2]))
            for name in self._storage.names("sweeps")
            if (match := _SWEEP_FILE.fullmatch(name))
        ]

    def delete_sweep_file(self, file: SweepFileName) -> None:
        """Remove one of a sweep's files, if it is there."""
        self._storage.delete(file.name)

    def drop_unfinished(self, *, older_than: float) -> int:
        """Remove what writers left unfinished that did not write for so many seconds; return how many there were."""
        return self._storage.drop_unfinished(older_than=older_than)

    def samples_file(self, sweep: SweepRecord) -> StoredFile:
        """Return the file of a sweep's samples; NotFound before the sweep has ended."""
        return self._published(sweep, RESULTS)

    def summary_file(self, sweep: SweepRecord) -> StoredFile:
        """Return the file of a sweep's summary; NotFound before the sweep has ended."""
        return self._published(sweep, SUMMARY_FILE)

    def read_summary(self, sweep: SweepRecord) -> pa.Table:
        """Return a sweep's summary; NotFound before the sweep has ended, DamagedFile where it cannot be read."""
        content = self.summary_file(sweep).read()
        try:
            return pq.ParquetFile(io.BytesIO(content), page_checksum_verification=True).read()
        except (OSError, pa.ArrowException) as error:
            raise DamagedFile(f"the summary of {sweep.id} cannot be read: {error}") from error

    def _file(self, sweep_id: str, name: str, epoch: int | None) -> StoredFile:
        ending = "parquet" if epoch is None else f"{epoch}.parquet"
        return StoredFile(storage=self._storage, name=f"sweeps/{sweep_id}/{name}.{ending}")

    def _published(self, sweep: SweepRecord, name: str) -> StoredFile:
        missing = NotFound(f"sweep {sweep.id} has no {name} yet")
        if sweep.files is None:
            raise missing
        file = self._file(sweep.id, name, sweep.files.epoch)
        try:
            file.stat()
        except NotFound:
            raise missing from None
        return file


def _about(sweep: SweepRecord) -> dict[str, str]:
    """Return the metadata that all files of a sweep have: its id and spec, and the version that writes them."""
    spec = canonical_json(sweep.spec)
    return {keys.SWEEP_ID: sweep.id, keys.SPEC: spec, keys.VERSION: __version__}


def _of_sweep(cell: pa.Table, own: Mapping[str, object], schema: pa.Schema) -> pa.Table:
    """Return a cell's samples with the columns that are the sweep's."""
    columns = [
        pa.repeat(pa.scalar(own[field.name], field.type), cell.num_rows) if field.name in own else cell[field.name]
        for field in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def _cell_file(name: str) -> str:
    return f"cells/{name}"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _replace_footer(path: Path, schema: pa.Schema) -> None:
    """Replace the footer of a Parquet file with one for `schema`, which differs in its metadata only.

    Some metadata are known only when the last row is written. The result is byte for byte the file that a writer opened
    with `schema` would have written.
    """
    footer = io.BytesIO()
    pq.write_metadata(schema, footer, metadata_collector=[pq.read_metadata(path)])
    with path.open("r+b") as file:
        file.seek(-_TAIL, os.SEEK_END)
        file.seek(-_TAIL - _footer_length(file.read(_TAIL)), os.SEEK_END)
        file.truncate()
        content = footer.getvalue()
        file.write(content[-_TAIL - _footer_length(content) :])


def _footer_length(content: bytes) -> int:
    return int.from_bytes(content[-_TAIL:][:4], "little")
