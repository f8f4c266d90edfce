"""Partial results: those of the completed cells of a sweep that is still running or was cancelled."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ampsweep.errors import DamagedFile
from ampsweep.hashing import canonical_json
from jobs.planning.search import search_of_stored
from jobs.results import metadata_keys as keys
from jobs.results.assembly import publish, read_ahead
from jobs.results.cell_table import CellTable
from jobs.results.finalization import cells_of
from jobs.results.writer import Results
from jobs.storage.local import LocalStorage
from jobs.store.protocol import Store
from jobs.store.records import CellRecord, SweepRecord
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


def write_partial(store: Store, results: Results, sweep: SweepRecord, folder: Path) -> PartialResults:
    """Write the samples and the summary of a sweep's completed cells to a local folder, marked as partial.

    A cell whose file is lost or damaged is left out and counts as missing. The state of the sweep does not change.

    Returns:
        The files, and how many cells they include.
    """
    cells = list(cells_of(store, sweep.id))
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
    return PartialResults(sweep=replace(sweep, files=files), results=target, cells=counts())


def _intact(results: Results, cells: Sequence[CellRecord]) -> Iterator[CellTable]:
    """Yield the completed cells whose files are intact."""
    completed = (record for record in cells if record.state is CellState.COMPLETED)
    for _, reading in read_ahead(results, completed):
        try:
            yield reading.result()
        except DamagedFile:
            continue
