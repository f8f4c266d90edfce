"""The end of a sweep: its cells become its results and its summary. Nothing damaged is published.

Where the sweep searches, the end of a rung is the beginning of the next one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ampsweep.canonical import canonical_json
from ampsweep.errors import Conflict, DamagedFile
from jobs.cell import Cell, TaskRef
from jobs.cell_table import CellTable
from jobs.results import Results
from jobs.search import Search
from jobs.sources import sources_of
from jobs.spec import parse_spec
from jobs.store.protocol import Store
from jobs.store.records import CellRecord, SweepFiles, SweepRecord
from jobs.store.states import CellState, SweepState
from jobs.summary import SummaryBuilder


def finalize(store: Store, results: Results, sweep_id: str) -> SweepRecord:
    """Publish a finalizing sweep's files and end it; returns the sweep as it then stands.

    It is completed, also with some cells failed; failed if all did. A cell whose file is lost or damaged is given back
    to be computed again: the sweep is in progress then, and is finalized anew. So it is where a search goes on with
    further cells. Calling this twice does no harm; what the disk refuses raises, and the sweep stays finalizing.
    """
    sweep = store.get_sweep(sweep_id)
    if sweep.state is not SweepState.FINALIZING:
        return sweep
    versions = _check(store, results, sweep_id)
    if versions is None:
        return store.get_sweep(sweep_id)
    search = Search(parse_spec(sweep.spec)) if sweep.spec.get("search") else None
    if search is not None and (further := _further(store, results, sweep_id, search)):
        return store.extend_sweep(sweep_id, further)
    rung = _in_full if search is None else search.rung
    failed = {record.id: record.error or "" for record in _cells(store, sweep_id) if record.state is CellState.FAILED}
    builder = SummaryBuilder(rung)

    def tables() -> Iterator[CellTable]:
        for record in _completed(store, sweep_id):
            found = results.read_cell(record)
            builder.add(found)
            yield found

    sources = sources_of(record.cell for record in _cells(store, sweep_id))
    samples = results.write_sweep(sweep, tables(), rung=rung, failed=failed, versions=versions, sources=sources)
    summary = results.write_summary(sweep, builder.rows)
    files = SweepFiles(samples=samples.sha256, summary=summary.sha256)
    error = None
    if len(failed) == sweep.request_counts.total:
        error = f"all {len(failed)} cells failed; the first one: {next(iter(failed.values()))}"
    try:
        return store.finish_sweep(sweep_id, files=files, error=error)
    except Conflict:  # a cell went back to work meanwhile: there will be another end
        return store.get_sweep(sweep_id)


def _check(store: Store, results: Results, sweep_id: str) -> list[Mapping[str, str]] | None:
    """Read every cell; return the distinct versions that computed them, or None if some were damaged and are reset."""
    versions: dict[str, Mapping[str, str]] = {}
    damaged = False
    for record in _completed(store, sweep_id):
        try:
            found = results.read_cell(record)
            versions[canonical_json(found.versions)] = found.versions
        except DamagedFile as error:
            store.reset_cell(record.id, error.message)
            damaged = True
    return None if damaged else list(versions.values())


def _in_full(_ref: TaskRef) -> None:
    """Tell no cell of a grid to be of a rung."""


def _further(store: Store, results: Results, sweep_id: str, search: Search) -> list[Cell]:
    """Return the cells of the next rung of a search, if there is one."""
    builder = SummaryBuilder(search.rung)
    for record in _completed(store, sweep_id):
        if search.rung(record.cell.task) is not None:
            builder.add(results.read_cell(record))
    return search.next((record.cell for record in _cells(store, sweep_id)), builder.shifts)


def _completed(store: Store, sweep_id: str) -> Iterator[CellRecord]:
    return (record for record in _cells(store, sweep_id) if record.state is CellState.COMPLETED)


def _cells(store: Store, sweep_id: str) -> Iterator[CellRecord]:
    after: str | None = None
    while True:
        page = store.list_cells(sweep_id, after=after, limit=1000)
        yield from page.data
        if not page.has_more:
            return
        after = page.data[-1].id
