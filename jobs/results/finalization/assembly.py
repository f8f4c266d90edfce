"""Assembles a sweep: publishes its samples and its summary, or returns the cells of the next rung of its search.

Every cell's file is read once and verified against the hash under which it was published, so damaged data never
reaches a result. Knows nothing of the store.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

from ampsweep.errors import DamagedFile
from ampsweep.hashing import canonical_json
from jobs.cell import Cell, TaskRef
from jobs.planning.search import Search, search_of_stored
from jobs.results import metadata_keys as keys
from jobs.results.cell_table import CellTable
from jobs.results.failures import errors_at_end, first_reason_in
from jobs.results.summary import SummaryBuilder
from jobs.results.writer import Results
from jobs.store.records import CellRecord, SweepFiles, SweepRecord
from jobs.store.transitions import CellState

READ_AHEAD = 8
"""Cells that are read ahead of the one that is evaluated. A read mostly waits for the object store, or for Arrow."""


@dataclass(frozen=True, kw_only=True)
class DamagedCell:
    """A cell whose file is lost or damaged."""

    cell_id: str
    file: str | None
    reason: str


@dataclass(frozen=True, kw_only=True)
class Assembled:
    """The outcome of an assembly: exactly one of `damaged`, `further` and `files` is set.

    Attributes:
        damaged: Cells that must be computed again first.
        further: Cells of the next rung of the search.
        files: The published files.
        error: Why the sweep failed although its files exist: none of its cells completed.
    """

    damaged: tuple[DamagedCell, ...] = ()
    further: tuple[Cell, ...] = ()
    files: SweepFiles | None = None
    error: str | None = None


Assemble = Callable[[SweepRecord, Sequence[CellRecord], int], Assembled]
"""Assembles a sweep from all its cells, in the order of the plan, under the epoch of its lease."""


def assemble(results: Results, sweep: SweepRecord, cells: Sequence[CellRecord], epoch: int) -> Assembled:
    """Publish the files of a sweep, unless cells are damaged or its search continues.

    Args:
        results: Where the cells' files are and the sweep's files are published.
        sweep: The sweep.
        cells: All cells of the sweep, in the order of the plan.
        epoch: The epoch of the lease on the sweep, which names the files.

    Returns:
        The published files, or the cells that must be computed first.

    Raises:
        Unavailable: if the storage cannot be written to for now.
        OSError: if the disk is full or cannot be written to.
    """
    search = search_of_stored(sweep.spec)
    reader = _Reader(results, cells)
    try:
        if search is not None and search.rung_of(record.cell for record in cells) is not None:
            if further := _next_rung(search, cells, reader):
                return Assembled(further=tuple(further))
            reader = _Reader(results, cells)  # no factor has a value: the search ends here
        error = _error_of(cells)
        errors = errors_at_end(sweep, error=error, first_reason=first_reason_in(cells))
        metadata = {keys.ERRORS: canonical_json([asdict(entry) for entry in errors])}
        files = publish(results, sweep, cells, reader.tables(), epoch=epoch, search=search, metadata=lambda: metadata)
    except _DamagedCells:
        return Assembled(damaged=tuple(reader.damaged))
    return Assembled(files=files, error=error)


def publish(
    results: Results,
    sweep: SweepRecord,
    cells: Sequence[CellRecord],
    tables: Iterable[CellTable],
    *,
    epoch: int,
    search: Search | None,
    metadata: Callable[[], Mapping[str, str]] = dict,
) -> SweepFiles:
    """Publish the samples and the summary of a sweep.

    Args:
        results: Where to publish.
        sweep: The sweep.
        cells: All cells of the sweep; those that failed are listed in the metadata.
        tables: The samples of the completed cells; read once.
        epoch: The epoch of the lease on the sweep, which names the files.
        search: The search of the sweep, if it has one.
        metadata: Called when all tables are read; returns further metadata of both files.

    Returns:
        The epoch and the hashes of both files.
    """
    builder = SummaryBuilder(search)

    def summarized() -> Iterator[CellTable]:
        for table in tables:
            builder.add(table)
            yield table

    sources = sources_of(record.cell for record in cells)
    samples = results.write_sweep(
        sweep, summarized(), epoch=epoch, search=search, failed=_failed(cells), sources=sources, extra_metadata=metadata
    )
    summary = results.write_summary(sweep, builder.rows, epoch=epoch, extra_metadata=metadata)
    return SweepFiles(samples=samples.sha256, summary=summary.sha256, epoch=epoch)


def read_ahead(results: Results, completed: Iterable[CellRecord]) -> Iterator[tuple[CellRecord, Future[CellTable]]]:
    """Yield completed cells in their order, each with its samples, while the next READ_AHEAD cells are read."""
    pending: deque[tuple[CellRecord, Future[CellTable]]] = deque()
    with ThreadPoolExecutor(READ_AHEAD, thread_name_prefix="ampsweep-read-cell") as pool:
        for record in completed:
            pending.append((record, pool.submit(results.read_cell, record)))
            if len(pending) > READ_AHEAD:
                yield pending.popleft()
        yield from pending


def sources_of(cells: Iterable[Cell]) -> dict[str, list[Any]]:
    """Return the provenance of a sweep's answers: the `models`, `engines`, `neurons` and `data` of its cells, as JSON.

    Each is listed once, with its hash or version, in a fixed order; `adapters`, and the `identifiers` of languages that
    decided which tokens were steered, only if there are any.
    """
    cells = tuple(cells)
    sources: dict[str, list[Any]] = {
        "models": [
            {"name": name, "source": source, "sha256": sha256}
            for name, source, sha256 in {(cell.model, cell.model_source, cell.model_hash) for cell in cells}
        ],
        "engines": [
            {"name": name, "versions": versions, "dtype": dtype}
            for name, versions, dtype in {(cell.engine, cell.engine_version, cell.dtype) for cell in cells}
        ],
        "neurons": list({cell.neurons.id for cell in cells if cell.neurons is not None}),
        "data": [_data_of(ref) for ref in {cell.task for cell in cells}],
    }
    optional: dict[str, list[Any]] = {
        "adapters": [
            {"name": adapter.name, "sha256": adapter.fingerprint}
            for adapter in {cell.adapter for cell in cells if cell.adapter is not None}
        ],
        "identifiers": list({cell.identifier for cell in cells if cell.identifier is not None}),
    }
    sources |= {kind: values for kind, values in optional.items() if values}
    return {kind: _distinct(values) for kind, values in sources.items()}


def _data_of(ref: TaskRef) -> dict[str, Any]:
    data = {"task": ref.name, "version": ref.version, "data": ref.data, "split": ref.split}
    optional: dict[str, Any] = {"repairs": dict(ref.repairs), "plugins": list(ref.plugins)}
    return {
        **data,
        "language": ref.data_language,
        "sha256": ref.data_hash,
        **{key: value for key, value in optional.items() if value},
    }


def _distinct(values: Iterable[Any]) -> list[Any]:
    """Return JSON values, each once, in the order of their canonical JSON."""
    by_text = {canonical_json(value): value for value in values}
    return [by_text[text] for text in sorted(by_text)]


def _failed(cells: Sequence[CellRecord]) -> dict[str, str]:
    """Return the error of each failed cell, by its id."""
    return {record.id: record.error or "" for record in cells if record.state is CellState.FAILED}


def _error_of(cells: Sequence[CellRecord]) -> str | None:
    """Return the error of a sweep without any completed cell; None for other sweeps."""
    failed = _failed(cells)
    if len(failed) < len(cells):
        return None
    return f"all {len(failed)} cells failed; the first one: {next(iter(failed.values()))}"


def _next_rung(search: Search, cells: Sequence[CellRecord], reader: _Reader) -> list[Cell]:
    builder = SummaryBuilder(search)
    for table in reader.tables():
        if search.rung(table.cell.task) is not None:
            builder.add(table)
    return search.next((record.cell for record in cells), builder.qualities)


class _DamagedCells(Exception):
    """Some cells are damaged; all cells were read."""


class _Reader:
    """Reads the completed cells."""

    def __init__(self, results: Results, cells: Sequence[CellRecord]) -> None:
        self.damaged: list[DamagedCell] = []
        self._results = results
        self._completed = [record for record in cells if record.state is CellState.COMPLETED]

    def tables(self) -> Iterator[CellTable]:
        """Yield the cells up to the first damaged one; read the others too, then raise _DamagedCells."""
        for record, reading in read_ahead(self._results, self._completed):
            try:
                table = reading.result()
            except DamagedFile as error:
                self.damaged.append(DamagedCell(cell_id=record.id, file=record.file, reason=error.message))
                continue
            if not self.damaged:
                yield table
        if self.damaged:
            raise _DamagedCells
