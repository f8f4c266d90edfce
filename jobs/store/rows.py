"""From rows to records and back."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from jobs.cell import Cell
from jobs.store.ledger import Ledger
from jobs.store.records import CellRecord, Event, Lease, RequestCounts, SweepRecord
from jobs.store.states import CellState, SweepState

Row = sa.RowMapping


def sweep_record(row: Row) -> SweepRecord:
    """Read a row of `sweeps`."""
    return SweepRecord(
        id=row["id"],
        name=row["name"],
        state=SweepState(row["state"]),
        spec=row["spec"],
        request_counts=RequestCounts(
            total=row["total"], completed=row["completed"], failed=row["failed"], reused=row["reused"]
        ),
        created_at=row["created_at"],
        ended_at=row["ended_at"],
        error=row["error"],
    )


def ledger_of(row: Row) -> Ledger:
    """Open the books of a row of `sweeps`."""
    return Ledger(
        sweep_id=row["id"],
        state=SweepState(row["state"]),
        total=row["total"],
        completed=row["completed"],
        failed=row["failed"],
        reused=row["reused"],
        last_event=row["events"],
        ended_at=row["ended_at"],
        error=row["error"],
    )


def ledger_columns(ledger: Ledger) -> dict[str, Any]:
    """Return the columns of `sweeps` that a ledger may have changed."""
    return {
        "state": ledger.state.value,
        "completed": ledger.completed,
        "failed": ledger.failed,
        "events": ledger.last_event,
        "ended_at": ledger.ended_at,
        "error": ledger.error,
    }


def cell_record(row: Row) -> CellRecord:
    """Read a row of `cells`."""
    return CellRecord(
        cell=Cell.from_dict(row["body"]),
        state=CellState(row["state"]),
        attempts=row["attempts"],
        error=row["error"],
        file=row["file"],
        rows=row["rows"],
        sha256=row["sha256"],
    )


def lease_of(row: Row) -> Lease:
    """Read the lease of a leased row of `cells`."""
    return Lease(cell=Cell.from_dict(row["body"]), owner=row["owner"], epoch=row["epoch"], expires_at=row["expires_at"])


def event_record(row: Row, sweep_id: str) -> Event:
    """Read a row of `events`."""
    return Event(id=row["id"], sweep_id=sweep_id, type=row["type"], data=row["data"], created_at=row["created_at"])
