"""The end of a sweep: its cells become its results and its summary. Nothing damaged is published."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ampsweep.canonical import canonical_json
from ampsweep.errors import Conflict, DamagedFile
from jobs.cell_table import CellTable
from jobs.results import Results
from jobs.store.protocol import Store
from jobs.store.records import CellRecord, SweepFiles, SweepRecord
from jobs.store.states import CellState, SweepState
from jobs.summary import SummaryBuilder


def finalize(store: Store, results: Results, sweep_id: str) -> SweepRecord:
    """Publish a finalizing sweep's files and end it; returns the sweep as it then stands.

    It is completed, also with some cells failed; failed if all did. A cell whose file is lost or damaged is given back
    to be computed again: the sweep is in progress then, and is finalized anew. Calling this twice does no harm; what
    the disk refuses raises, and the sweep stays finalizing.
    """
    sweep = store.get_sweep(sweep_id)
    if sweep.state is not SweepState.FINALIZING:
        return sweep
    checked = _check(store, results, sweep_id)
    if checked is None:
        return store.get_sweep(sweep_id)
    failed = {record.id: record.error or "" for record in _cells(store, sweep_id) if record.state is CellState.FAILED}
    builder = SummaryBuilder()

    def tables() -> Iterator[CellTable]:
        for record in _completed(store, sweep_id):
            found = results.read_cell(record)
            builder.add(found)
            yield found

    samples = results.write_sweep(sweep, tables(), failed=failed, versions=checked.versions, models=checked.models)
    summary = results.write_summary(sweep, builder.rows)
    files = SweepFiles(samples=samples.sha256, summary=summary.sha256)
    error = None
    if len(failed) == sweep.request_counts.total:
        error = f"all {len(failed)} cells failed; the first one: {next(iter(failed.values()))}"
    try:
        return store.finish_sweep(sweep_id, files=files, error=error)
    except Conflict:  # a cell went back to work meanwhile: there will be another end
        return store.get_sweep(sweep_id)


@dataclass(frozen=True, kw_only=True)
class _Checked:
    """The distinct versions that computed a sweep's cells, and the models by name."""

    versions: list[Mapping[str, str]]
    models: dict[str, Mapping[str, str | None]]


def _check(store: Store, results: Results, sweep_id: str) -> _Checked | None:
    """Read every cell; return what computed them, or None if some were damaged and are reset."""
    versions: dict[str, Mapping[str, str]] = {}
    models: dict[str, Mapping[str, str | None]] = {}
    damaged = False
    for record in _completed(store, sweep_id):
        try:
            found = results.read_cell(record)
            versions[canonical_json(found.versions)] = found.versions
            models[found.cell.model] = {"source": record.cell.model_source, "fingerprint": record.cell.model_hash}
        except DamagedFile as error:
            store.reset_cell(record.id, error.message)
            damaged = True
    return None if damaged else _Checked(versions=list(versions.values()), models=models)


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
