"""The end of a sweep: its cells become its results and its summary.

Where the sweep searches, the end of a rung is the beginning of the next one.
"""

from __future__ import annotations

from collections.abc import Iterator

from ampsweep.errors import Conflict
from jobs.results.assembly import Assemble
from jobs.store.protocol import Store
from jobs.store.records import CellRecord, SweepLease, SweepRecord


def finalize(store: Store, lease: SweepLease, assemble: Assemble) -> SweepRecord:
    """Publish a leased sweep's files and end it; returns the sweep as it then stands.

    It is completed, also with some cells failed; failed if all did. A cell whose file is lost or damaged is given back
    to be computed again: the sweep is in progress then, and is finalized anew. So it is where a search goes on with
    further cells. Nothing comes of it where the lease has passed; what the disk refuses raises, and the sweep stays
    finalizing.
    """
    sweep_id = lease.sweep_id
    found = assemble(store.get_sweep(sweep_id), list(cells_of(store, sweep_id)), lease.epoch)
    for damaged in found.damaged:
        store.reset_cell(damaged.cell_id, damaged.reason, file=damaged.file)
    try:
        if found.further:
            return store.extend_sweep(lease, found.further)
        if found.files is not None:
            return store.finish_sweep(lease, files=found.files, error=found.error)
    except Conflict:  # a cell went back to work meanwhile, or the lease has passed: there will be another end
        pass
    return store.get_sweep(sweep_id)


def cells_of(store: Store, sweep_id: str) -> Iterator[CellRecord]:
    """Yield all cells of a sweep in the plan's order."""
    after: str | None = None
    while True:
        page = store.list_cells(sweep_id, after=after, limit=1000)
        yield from page.data
        if not page.has_more:
            return
        after = page.data[-1].id
