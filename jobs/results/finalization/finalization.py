"""Finalization of a sweep: publishes its results once all cells have ended, or adds the next rung of its search."""

from __future__ import annotations

from collections.abc import Iterator

from ampsweep.errors import Conflict
from jobs.results.finalization.assembly import Assemble
from jobs.store.protocol import Store
from jobs.store.records import CellRecord, SweepLease, SweepRecord


def finalize(store: Store, lease: SweepLease, assemble: Assemble) -> SweepRecord:
    """Publish the files of a leased sweep and end it.

    The sweep is completed if any of its cells is, and failed otherwise. It is in progress again, and finalized later,
    if its search continues with further cells, or if the file of a cell is lost or damaged, so that the cell must be
    computed again. If the lease has expired, nothing changes.

    Args:
        store: The store.
        lease: The lease on the sweep.
        assemble: Publishes the files (`jobs.results.finalization.assembly`).

    Returns:
        The sweep after finalization.

    Raises:
        Unavailable: if the files cannot be written for now; the sweep stays in the state finalizing.
        OSError: if the disk is full or cannot be written to; the sweep stays in the state finalizing.
    """
    sweep_id = lease.sweep_id
    assembled = assemble(store.get_sweep(sweep_id), list(cells_of(store, sweep_id)), lease.epoch)
    for damaged in assembled.damaged:
        store.reset_cell(damaged.cell_id, damaged.reason, file=damaged.file)
    try:
        if assembled.further:
            return store.extend_sweep(lease, assembled.further)
        if assembled.files is not None:
            return store.finish_sweep(lease, files=assembled.files, error=assembled.error)
    except Conflict:  # a cell is computed again, or the lease has expired: the sweep is finalized again
        pass
    return store.get_sweep(sweep_id)


def cells_of(store: Store, sweep_id: str) -> Iterator[CellRecord]:
    """Yield all cells of a sweep in the order of the plan."""
    after: str | None = None
    while True:
        page = store.list_cells(sweep_id, after=after, limit=1000)
        yield from page.data
        if not page.has_more:
            return
        after = page.data[-1].id
