"""Writes and reads result files: one Parquet file for each cell, and the samples and the summary of each ended sweep.

    cells/<cell id>.<epoch>.parquet
    sweeps/<sweep id>/results.<epoch>.parquet, summary.<epoch>.parquet

Every file is published atomically. Its name has the epoch of the lease under which it was written, so a late writer
overwrites no other file; a file counts once the store knows it. Every file is verified against the published hash
before it is read or served. Knows nothing of the store.
"""

from __future__ import annotations

import errno
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
from ampsweep.files import write_problem
from ampsweep.hashing import canonical_json, file_hash
from ampsweep.version import __version__
from jobs.cell import Cell
from jobs.planning.search import Search
from jobs.results import metadata_keys as keys
from jobs.results.cell_table import CellTable, from_bytes, to_table
from jobs.results.schema import SAMPLES, SUMMARY, WRITING
from jobs.results.score_files import ScoreFiles
from jobs.sample import Sample
from jobs.storage.protocol import Storage, StoredFile
from jobs.store.records import CellFile, CellRecord, SweepRecord

RESULTS = "results"
SUMMARY_FILE = "summary"
_SWEEP_FILE = re.compile(rf"sweeps/([^/]+)/(?:{RESULTS}|{SUMMARY_FILE})(?:\.(\d+))?\.parquet")
_ROW_GROUP = 65_536
_TEMPORARY = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE, errno.ETIMEDOUT})
"""Errors that say nothing about a file: too many open files, no memory, a network disk that is out of reach."""
_TAIL = 8
"""A Parquet file ends with the length of its footer, in 4 bytes (little-endian), and `PAR1`."""


@dataclass(frozen=True, kw_only=True)
class Published:
    """A published file of a sweep and its SHA-256."""

    file: StoredFile
    sha256: str


@dataclass(frozen=True, kw_only=True)
class SweepFileName:
    """Name of a sweep's file in the storage, taken apart.

    `epoch` is None for files of versions that did not lease sweeps.
    """

    name: str
    sweep_id: str
    epoch: int | None


class Results:
    """The result files in one storage.

    Attributes:
        scores: The files of scores of evaluations.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self.scores = ScoreFiles(storage)
        self._verified: dict[str, tuple[str, str]] = {}  # file name -> etag and hash when it was verified

    @property
    def root(self) -> str:
        """Address of the storage, as `open_storage` accepts it."""
        return self._storage.root

    def check_writable(self) -> None:
        """Publish and delete a small file; raise Unavailable if that fails."""
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
        """Publish the samples of a cell and return its file, which the caller reports to the store.

        Args:
            cell: The cell.
            epoch: The epoch of the lease on the cell, which names the file.
            samples: Its samples.
            left_out: Number of items that the task left out.
            neurons: Number of neurons that the intervention changed.
            versions: Versions of the software that computed the samples.

        Raises:
            Unavailable: if the disk is full or cannot be written to, which may be temporary.
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
            message = f"results cannot be written to {self._storage.root}: {write_problem(error)}"
            raise Unavailable(message) from error
        errors = [sample.error for sample in samples if sample.error is not None]
        return CellFile(
            name=name,
            rows=table.num_rows,
            sha256=hashlib.sha256(content).hexdigest(),
            failed_samples=len(errors),
            sample_error=next(iter(errors), None),
        )

    def read_cell(self, record: CellRecord) -> CellTable:
        """Return the samples of a completed cell.

        Raises:
            DamagedFile: if the file is lost, or its bytes, rows or cell differ from those published.
            Unavailable: if the storage cannot be reached, or the machine has too many open files or no memory.
        """
        assert record.file is not None
        try:
            content = self._storage.read(_cell_file(record.file))
        except NotFound:
            raise DamagedFile(f"{record.file} is lost") from None
        except OSError as error:
            raise _unreadable(record.file, error) from error
        if hashlib.sha256(content).hexdigest() != record.sha256:
            raise DamagedFile(f"{record.file} does not have the bytes that were published")
        table = from_bytes(content, record.file)
        if table.table.num_rows != record.rows or table.cell.id != record.id:
            raise DamagedFile(f"{record.file} does not hold the {record.rows} rows of {record.id}")
        return table

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
            sources: The provenance of the answers (`jobs.results.finalization.assembly.sources_of`), for the metadata.
            extra_metadata: Called when all cells are read; returns further metadata.

        Returns:
            The file and its hash.
        """
        versions: dict[str, Mapping[str, str]] = {}
        target = self._file(sweep.id, RESULTS, epoch)
        with self._storage.writing(target.name) as path:
            with pq.ParquetWriter(path, SAMPLES, **WRITING) as writer:
                row_group: list[pa.Table] = []
                rows = 0
                for cell in cells:
                    versions.setdefault(canonical_json(cell.versions), cell.versions)
                    rung = None if search is None else search.rung(cell.cell.task)
                    row_group.append(_with_columns(cell.table, {"sweep_id": sweep.id, "rung": rung}, SAMPLES))
                    rows += cell.table.num_rows
                    if rows >= _ROW_GROUP:
                        writer.write_table(pa.concat_tables(row_group))
                        row_group, rows = [], 0
                if row_group:
                    writer.write_table(pa.concat_tables(row_group))
            metadata = {
                **_sweep_metadata(sweep),
                **extra_metadata(),
                keys.VERSIONS: canonical_json(list(versions.values())),
                keys.FAILED_CELLS: canonical_json(dict(failed)),
                keys.SOURCES: canonical_json(dict(sources)),
                keys.WARNINGS: canonical_json(list(sweep.warnings)),
            }
            _replace_footer(path, SAMPLES.with_metadata(metadata))
            return Published(file=target, sha256=file_hash(path))

    def write_summary(
        self,
        sweep: SweepRecord,
        rows: Sequence[Mapping[str, object]],
        *,
        epoch: int,
        extra_metadata: Callable[[], Mapping[str, str]] = dict,
    ) -> Published:
        """Publish the summary of a sweep.

        Args:
            sweep: The sweep.
            rows: The rows, with the columns of `jobs.results.schema.SUMMARY`.
            epoch: The epoch of the lease on the sweep, which names the file.
            extra_metadata: Returns further metadata.

        Returns:
            The file and its hash.
        """
        table = pa.Table.from_pylist([dict(row) for row in rows], schema=SUMMARY)
        metadata = {**_sweep_metadata(sweep), **extra_metadata()}
        target = self._file(sweep.id, SUMMARY_FILE, epoch)
        with self._storage.writing(target.name) as path:
            pq.write_table(table.replace_schema_metadata(metadata), path, **WRITING)
            return Published(file=target, sha256=file_hash(path))

    def check_sweep(self, sweep: SweepRecord) -> None:
        """Check that the files of an ended sweep are there and are those that were published.

        A file is read once, and again after its etag has changed.

        Raises:
            DamagedFile: if a file is lost or damaged.
            Unavailable: if the storage cannot be reached, or the machine has too many open files or no memory.
        """
        if sweep.files is None:
            raise DamagedFile(f"the files of sweep {sweep.id} are unknown")
        for name, sha256 in ((RESULTS, sweep.files.samples), (SUMMARY_FILE, sweep.files.summary)):
            file = self._file(sweep.id, name, sweep.files.epoch)
            try:
                version = file.stat().etag, sha256
                if self._verified.get(file.name) == version:
                    continue
                with file.open() as stream:
                    digest = hashlib.file_digest(stream, "sha256").hexdigest()
            except NotFound:
                raise DamagedFile(f"{name} of sweep {sweep.id} is lost") from None
            except OSError as error:
                raise _unreadable(f"{name} of sweep {sweep.id}", error) from error
            if digest != sha256:
                raise DamagedFile(f"{name} of sweep {sweep.id} does not have the bytes that were published")
            self._verified[file.name] = version

    def cell_names(self) -> list[str]:
        """Return the names of the files of all cells."""
        return [name.removeprefix("cells/") for name in self._storage.names("cells")]

    def delete_cells(self, names: Iterable[str]) -> None:
        """Delete those files of cells that exist."""
        self._storage.delete(*map(_cell_file, names))

    def sweep_files(self) -> list[SweepFileName]:
        """Return the names of the files of all sweeps."""
        return [
            SweepFileName(name=name, sweep_id=match[1], epoch=None if match[2] is None else int(match[2]))
            for name in self._storage.names("sweeps")
            if (match := _SWEEP_FILE.fullmatch(name))
        ]

    def delete_sweep_files(self, files: Iterable[SweepFileName]) -> None:
        """Delete those files of sweeps that exist."""
        self._storage.delete(*(file.name for file in files))

    def drop_unfinished(self, *, older_than: float) -> int:
        """Delete unfinished files that nobody wrote to for `older_than` seconds; return their number."""
        return self._storage.drop_unfinished(older_than=older_than)

    def samples_file(self, sweep: SweepRecord) -> StoredFile:
        """Return the file of a sweep's samples; raise NotFound before the sweep has ended."""
        return self._published(sweep, RESULTS)

    def summary_file(self, sweep: SweepRecord) -> StoredFile:
        """Return the file of a sweep's summary; raise NotFound before the sweep has ended."""
        return self._published(sweep, SUMMARY_FILE)

    def read_summary(self, sweep: SweepRecord) -> pa.Table:
        """Return the summary of a sweep.

        Raises:
            NotFound: before the sweep has ended.
            DamagedFile: if the file cannot be read.
        """
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


def _unreadable(what: str, error: OSError) -> DamagedFile | Unavailable:
    """Return the error for a file that cannot be read: whether the file is damaged, or the machine lacks something."""
    message = f"{what} cannot be read: {error.strerror or error}"
    return Unavailable(message) if error.errno in _TEMPORARY else DamagedFile(message)


def _sweep_metadata(sweep: SweepRecord) -> dict[str, str]:
    """Return the metadata of all files of a sweep: its id, its spec, and the version of Ampsweep that writes them."""
    spec = canonical_json(sweep.spec)
    return {keys.SWEEP_ID: sweep.id, keys.SPEC: spec, keys.VERSION: __version__}


def _with_columns(table: pa.Table, values: Mapping[str, object], schema: pa.Schema) -> pa.Table:
    """Return a table in a schema, with columns that have one value each."""
    columns = [
        pa.repeat(pa.scalar(values[field.name], field.type), table.num_rows)
        if field.name in values
        else table[field.name]
        for field in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def _cell_file(name: str) -> str:
    return f"cells/{name}"


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
