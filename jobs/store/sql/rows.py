"""Conversion between database rows, records and state machines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import sqlalchemy as sa

from jobs.cell import Cell
from jobs.store.cell_state import CellStateMachine
from jobs.store.records import CellFile, Event, SweepFiles, SweepRecord
from jobs.store.sql.tables import sweeps
from jobs.store.sweep_state import SweepStateMachine
from jobs.store.transitions import CellState, SweepState

Row = sa.RowMapping

SWEEP_STATE = [
    column
    for column in sweeps.c
    if column.name not in ("name", "owner", "priority", "model", "spec", "warnings", "expired_at", "deleted_at")
]
"""The columns of `sweeps` that `sweep_state_of` reads."""


def sweep_record(row: Row, tags: Sequence[str]) -> SweepRecord:
    """Convert a row of `sweeps` and the tags of the sweep to a record."""
    state = sweep_state_of(row)
    return SweepRecord(
        id=state.sweep_id,
        name=row["name"],
        state=state.state,
        spec=row["spec"],
        request_counts=state.counts,
        created_at=row["created_at"],
        ended_at=state.ended_at,
        error=state.error,
        owner=row["owner"],
        priority=row["priority"],
        samples=state.samples,
        failed_samples=state.failed_samples,
        files=state.files,
        expired_at=row["expired_at"],
        warnings=tuple(row["warnings"]),
        tags=tuple(tags),
    )


def sweep_state_of(row: Row) -> SweepStateMachine:
    """Convert a row of `sweeps` to a state machine. The row needs the columns SWEEP_STATE."""
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


def sweep_state_columns(sweep_state: SweepStateMachine) -> dict[str, Any]:
    """Return the columns of `sweeps` that a state machine may change."""
    return {
        "state": sweep_state.state.value,
        "total": sweep_state.total,
        "reused": sweep_state.reused,
        "completed": sweep_state.completed,
        "failed": sweep_state.failed,
        "leased": sweep_state.leased,
        "samples": sweep_state.samples,
        "failed_samples": sweep_state.failed_samples,
        "served_at": sweep_state.served_at,
        "first_pending": sweep_state.first_pending,
        "events": sweep_state.last_event,
        "ended_at": sweep_state.ended_at,
        "error": sweep_state.error,
        "files": sweep_state.files and asdict(sweep_state.files),
        "finalizer": sweep_state.finalizer,
        "finalizer_epoch": sweep_state.finalizer_epoch,
        "finalizer_expires_at": sweep_state.finalizer_expires_at,
    }


def cell_state_of(row: Row) -> CellStateMachine:
    """Convert a row of `cells` to a state machine."""
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
        expirations=row["lapses"],
        quarantined=row["suspect"],
        epoch=row["epoch"],
        owner=row["owner"],
        expires_at=row["expires_at"],
        error=row["error"],
        file=file,
        samples=row["samples"],
    )


def cell_columns(state: CellStateMachine) -> dict[str, Any]:
    """Return the columns of `cells` that a state machine may change."""
    file = state.file
    return {
        "state": state.state.value,
        "attempts": state.attempts,
        "lapses": state.expirations,
        "suspect": state.quarantined,
        "epoch": state.epoch,
        "owner": state.owner,
        "expires_at": state.expires_at,
        "error": state.error,
        "file": None if file is None else file.name,
        "rows": None if file is None else file.rows,
        "sha256": None if file is None else file.sha256,
        "samples": state.samples,
        "failed_samples": 0 if file is None else file.failed_samples,
        "sample_error": None if file is None else file.sample_error,
    }


def event_record(row: Row, sweep_id: str) -> Event:
    """Convert a row of `events` to a record."""
    return Event(id=row["id"], sweep_id=sweep_id, type=row["type"], data=row["data"], created_at=row["created_at"])
