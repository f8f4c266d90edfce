"""From rows to records and books, and back."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import sqlalchemy as sa

from jobs.cell import Cell
from jobs.store.cell_state import CellStateMachine
from jobs.store.records import CellFile, Event, SweepFiles, SweepRecord
from jobs.store.sweep_state import SweepStateMachine
from jobs.store.tables import sweeps
from jobs.store.transitions import CellState, SweepState

Row = sa.RowMapping

LEDGER = [
    column
    for column in sweeps.c
    if column.name not in ("name", "owner", "priority", "model", "spec", "warnings", "expired_at")
]
"""The columns of `sweeps` that `ledger_of` reads."""


def sweep_record(row: Row) -> SweepRecord:
    """Read a row of `sweeps`."""
    books = ledger_of(row)
    return SweepRecord(
        id=books.sweep_id,
        name=row["name"],
        state=books.state,
        spec=row["spec"],
        request_counts=books.counts,
        created_at=row["created_at"],
        ended_at=books.ended_at,
        error=books.error,
        owner=row["owner"],
        priority=row["priority"],
        samples=books.samples,
        failed_samples=books.failed_samples,
        files=books.files,
        expired_at=row["expired_at"],
        warnings=tuple(row["warnings"]),
    )


def ledger_of(row: Row) -> SweepStateMachine:
    """Open the books of a row of `sweeps`."""
    files = row["files"]
    return SweepStateMachine(
        sweep_id=row["id"],
        state=SweepState(row["state"]),
        total=row["total"],
        completed=row["completed"],
        failed=row["failed"],
        leased=row["leased"],
        reused=row["reused"],
        samples=row["samples"],
        failed_samples=row["failed_samples"],
        served_at=row["served_at"],
        first_pending=row["first_pending"],
        last_event=row["events"],
        ended_at=row["ended_at"],
        error=row["error"],
        files=files and SweepFiles(**files),
        finalizer=row["finalizer"],
        finalizer_epoch=row["finalizer_epoch"],
        finalizer_expires_at=row["finalizer_expires_at"],
    )


def ledger_columns(ledger: SweepStateMachine) -> dict[str, Any]:
    """Return the columns of `sweeps` that a ledger may have changed."""
    return {
        "state": ledger.state.value,
        "total": ledger.total,
        "reused": ledger.reused,
        "completed": ledger.completed,
        "failed": ledger.failed,
        "leased": ledger.leased,
        "samples": ledger.samples,
        "failed_samples": ledger.failed_samples,
        "served_at": ledger.served_at,
        "first_pending": ledger.first_pending,
        "events": ledger.last_event,
        "ended_at": ledger.ended_at,
        "error": ledger.error,
        "files": ledger.files and asdict(ledger.files),
        "finalizer": ledger.finalizer,
        "finalizer_epoch": ledger.finalizer_epoch,
        "finalizer_expires_at": ledger.finalizer_expires_at,
    }


def cell_books(row: Row) -> CellStateMachine:
    """Open the books of a row of `cells`."""
    file = None
    if row["file"] is not None:
        file = CellFile(
            name=row["file"],
            rows=row["rows"],
            sha256=row["sha256"],
            failed_samples=row["failed_samples"],
            sample_error=row["sample_error"],
        )
    return CellStateMachine(
        cell=Cell.from_dict(row["body"]),
        state=CellState(row["state"]),
        attempts=row["attempts"],
        lapses=row["lapses"],
        suspect=row["suspect"],
        epoch=row["epoch"],
        owner=row["owner"],
        expires_at=row["expires_at"],
        error=row["error"],
        file=file,
        samples=row["samples"],
    )


def cell_columns(books: CellStateMachine) -> dict[str, Any]:
    """Return the columns of `cells` that change."""
    file = books.file
    return {
        "state": books.state.value,
        "attempts": books.attempts,
        "lapses": books.lapses,
        "suspect": books.suspect,
        "epoch": books.epoch,
        "owner": books.owner,
        "expires_at": books.expires_at,
        "error": books.error,
        "file": None if file is None else file.name,
        "rows": None if file is None else file.rows,
        "sha256": None if file is None else file.sha256,
        "samples": books.samples,
        "failed_samples": 0 if file is None else file.failed_samples,
        "sample_error": None if file is None else file.sample_error,
    }


def event_record(row: Row, sweep_id: str) -> Event:
    """Read a row of `events`."""
    return Event(id=row["id"], sweep_id=sweep_id, type=row["type"], data=row["data"], created_at=row["created_at"])
