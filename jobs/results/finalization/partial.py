"""Partial results: those of the completed cells of a sweep that is still running or was cancelled."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

from ampsweep.errors import DamagedFile
from ampsweep.hashing import canonical_json
from jobs.planning.search import search_of_stored
from jobs.results import metadata_keys as keys
from jobs.results.cell_table import CellTable
from jobs.results.finalization.assembly import publish, read_ahead
from jobs.results.finalization.finalization import cells_of
from jobs.results.writer import Results
from jobs.storage.local import LocalStorage
from jobs.store.protocol import Store
from jobs.store.records import CellRecord, SweepFiles, SweepRecord
from jobs.store.transitions import CellState


@dataclass(frozen=True, kw_only=True)
class PartialCells:
    """How many of a sweep's cells are `included` in its partial results, `failed`, or are still `missing`."""

    status: str
    total: int
    included: int
    failed: int
    missing: int


@dataclass(frozen=True, kw_only=True)
class AssembledCells:
    """The files that were written of a sweep's completed cells, and how many cells they include."""

    files: SweepFiles
    cells: PartialCells


AssembleCells = Callable[[SweepRecord, Sequence[CellRecord], Path], AssembledCells]
"""Writes the samples and the summary of a sweep's completed cells to a local folder."""


@dataclass(frozen=True, kw_only=True)
class PartialResults:
    """Partial results in a local folder.

    Attributes:
        sweep: The sweep with the names of the partial files, for the methods of `results`.
        results: Reads the partial files.
        cells: How many cells the files include.
    """

    sweep: SweepRecord
    results: Results
    cells: PartialCells


def write_partial(
    store: Store, results: Results, sweep: SweepRecord, folder: Path, *, assemble: AssembleCells | None = None
) -> PartialResults:
    """Write the samples and the summary of a sweep's completed cells to a local folder, marked as partial.

    A cell whose file is lost or damaged is left out and counts as missing. The state of the sweep does not change.

    Args:
        store: Where the sweep's cells are stored.
        results: Where the files of the cells are.
        sweep: The sweep.
        folder: An empty folder.
        assemble: Writes the files; by default in the calling thread.

    Returns:
        The files, and how many cells they include.
    """
    assemble = assemble or partial(assemble_cells, results)
    assembled = assemble(sweep, list(cells_of(store, sweep.id)), folder)
    return PartialResults(
        sweep=replace(sweep, files=assembled.files), results=Results(LocalStorage(folder)), cells=assembled.cells
    )


def assemble_cells(results: Results, sweep: SweepRecord, cells: Sequence[CellRecord], folder: Path) -> AssembledCells:
    """Write the files of `write_partial`; `cells` are all cells of the sweep, in the order of the plan."""
    failed = sum(1 for record in cells if record.state is CellState.FAILED)
    included = 0

    def tables() -> Iterator[CellTable]:
        nonlocal included
        for table in _intact(results, cells):
            included += 1
            yield table

    def counts() -> PartialCells:
        return PartialCells(
            status=sweep.state.value,
            total=len(cells),
            included=included,
            failed=failed,
            missing=len(cells) - included - failed,
        )

    def metadata() -> Mapping[str, str]:
        return {keys.PARTIAL: canonical_json(asdict(counts()))}

    target = Results(LocalStorage(folder))
    search = search_of_stored(sweep.spec)
    files = publish(target, sweep, cells, tables(), epoch=0, search=search, metadata=metadata)
    return AssembledCells(files=files, cells=counts())


def _intact(results: Results, cells: Sequence[CellRecord]) -> Iterator[CellTable]:
    """Yield the completed cells whose files are intact."""
    completed = (record for record in cells if record.state is CellState.COMPLETED)
    for _, reading in read_ahead(results, completed):
        try:
            yield reading.result()
        except DamagedFile:
            continue
