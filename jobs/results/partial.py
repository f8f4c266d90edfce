"""The results of a sweep before its end, or of one that was cancelled: those of the cells that are completed by now."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ampsweep.errors import DamagedFile
from ampsweep.hashing import canonical_json
from jobs.planning.search import Search, no_rung
from jobs.results.cell_table import CellTable
from jobs.results.finalization import cells_of
from jobs.results.provenance import sources_of
from jobs.results.summary import SummaryBuilder
from jobs.results.writer import Results
from jobs.spec import parse_spec
from jobs.storage.local import LocalStorage
from jobs.store.protocol import Store
from jobs.store.records import CellRecord, SweepFiles, SweepRecord
from jobs.store.transitions import CellState


@dataclass(frozen=True, kw_only=True)
class PartialCells:
    """How many of a sweep's cells are in its partial results; the others failed, or are `missing` yet."""

    status: str
    total: int
    included: int
    failed: int
    missing: int


@dataclass(frozen=True, kw_only=True)
class PartialResults:
    """Partial results in a folder: `sweep` names its files, which `results` reads."""

    sweep: SweepRecord
    results: Results
    cells: PartialCells


def write_partial(store: Store, results: Results, sweep: SweepRecord, folder: Path) -> PartialResults:
    """Write the samples and the summary of a sweep's completed cells to a local folder, marked as partial.

    A cell whose file is lost or damaged is left out. Nothing changes for the sweep.
    """
    cells = list(cells_of(store, sweep.id))
    rung = Search(parse_spec(sweep.spec)).rung if sweep.spec.get("search") else no_rung
    failed = {record.id: record.error or "" for record in cells if record.state is CellState.FAILED}
    builder = SummaryBuilder(rung)
    included: list[str] = []

    def tables() -> Iterator[CellTable]:
        for found in _whole(results, cells):
            builder.add(found)
            included.append(found.cell.id)
            yield found

    def counts() -> PartialCells:
        missing = len(cells) - len(included) - len(failed)
        return PartialCells(
            status=sweep.state.value, total=len(cells), included=len(included), failed=len(failed), missing=missing
        )

    def mark() -> Mapping[str, str]:
        return {"ampsweep.partial": canonical_json(asdict(counts()))}

    target = Results(LocalStorage(folder))
    sources = sources_of(record.cell for record in cells)
    samples = target.write_sweep(sweep, tables(), epoch=0, rung=rung, failed=failed, sources=sources, mark=mark)
    summary = target.write_summary(sweep, builder.rows, epoch=0, mark=mark)
    files = SweepFiles(samples=samples.sha256, summary=summary.sha256, epoch=0)
    return PartialResults(sweep=replace(sweep, files=files), results=target, cells=counts())


def _whole(results: Results, cells: Sequence[CellRecord]) -> Iterator[CellTable]:
    for record in cells:
        if record.state is CellState.COMPLETED:
            try:
                yield results.read_cell(record)
            except DamagedFile:
                continue
