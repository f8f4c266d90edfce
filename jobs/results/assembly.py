"""Puts a sweep's cells together: its samples and its summary, or the cells it needs next. Knows no store.

Each cell's file is read once and checked against what was published. Nothing damaged gets into a result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ampsweep.errors import DamagedFile
from jobs.cell import Cell, TaskRef
from jobs.planning.search import Search, no_rung
from jobs.results.cell_table import CellTable
from jobs.results.provenance import sources_of
from jobs.results.summary import SummaryBuilder
from jobs.results.writer import Results
from jobs.spec import parse_spec
from jobs.store.records import CellRecord, SweepFiles, SweepRecord
from jobs.store.transitions import CellState


@dataclass(frozen=True, kw_only=True)
class DamagedCell:
    """A cell whose file is lost or damaged."""

    cell_id: str
    file: str | None
    reason: str


@dataclass(frozen=True, kw_only=True)
class Assembled:
    """What came out: damaged cells, which are to be computed again; or the cells that a search goes on with; or files.

    `error` says why a sweep failed whose files are there.
    """

    damaged: tuple[DamagedCell, ...] = ()
    further: tuple[Cell, ...] = ()
    files: SweepFiles | None = None
    error: str | None = None


Assemble = Callable[[SweepRecord, Sequence[CellRecord], int], Assembled]
"""Puts a sweep together from all its cells, in the plan's order, under the epoch of the lease on it."""


def assemble(results: Results, sweep: SweepRecord, cells: Sequence[CellRecord], epoch: int) -> Assembled:
    """Publish a sweep's files under an epoch, or say what it needs first.

    Raises Unavailable or OSError where the storage cannot be written to now.
    """
    search = Search(parse_spec(sweep.spec)) if sweep.spec.get("search") else None
    reader = _Reader(results, cells)
    try:
        if search is not None and search.rung_of(record.cell for record in cells) is not None:
            if further := _next_rung(search, cells, reader):
                return Assembled(further=tuple(further))
            reader = _Reader(results, cells)  # no factor has an LSS: the search ends here
        return _publish(results, sweep, cells, epoch, reader, no_rung if search is None else search.rung)
    except _FoundDamaged:
        return Assembled(damaged=tuple(reader.damaged))


def _publish(
    results: Results,
    sweep: SweepRecord,
    cells: Sequence[CellRecord],
    epoch: int,
    reader: _Reader,
    rung: Callable[[TaskRef], int | None],
) -> Assembled:
    failed = {record.id: record.error or "" for record in cells if record.state is CellState.FAILED}
    builder = SummaryBuilder(rung)

    def tables() -> Iterator[CellTable]:
        for found in reader.tables():
            builder.add(found)
            yield found

    sources = sources_of(record.cell for record in cells)
    samples = results.write_sweep(sweep, tables(), epoch=epoch, rung=rung, failed=failed, sources=sources)
    summary = results.write_summary(sweep, builder.rows, epoch=epoch)
    error = None
    if len(failed) == len(cells):
        error = f"all {len(failed)} cells failed; the first one: {next(iter(failed.values()))}"
    return Assembled(files=SweepFiles(samples=samples.sha256, summary=summary.sha256, epoch=epoch), error=error)


def _next_rung(search: Search, cells: Sequence[CellRecord], reader: _Reader) -> list[Cell]:
    builder = SummaryBuilder(search.rung)
    for found in reader.tables():
        if search.rung(found.cell.task) is not None:
            builder.add(found)
    return search.next((record.cell for record in cells), builder.shifts)


class _FoundDamaged(Exception):
    """Some cells are damaged; all were looked at."""


class _Reader:
    """Reads the completed ones among cells."""

    def __init__(self, results: Results, cells: Sequence[CellRecord]) -> None:
        self.damaged: list[DamagedCell] = []
        self._results = results
        self._completed = [record for record in cells if record.state is CellState.COMPLETED]

    def tables(self) -> Iterator[CellTable]:
        """Yield the cells; raises _FoundDamaged at the end where some were damaged."""
        for record in self._completed:
            try:
                found = self._results.read_cell(record)
            except DamagedFile as error:
                self.damaged.append(DamagedCell(cell_id=record.id, file=record.file, reason=error.message))
                continue
            if not self.damaged:
                yield found
        if self.damaged:
            raise _FoundDamaged
