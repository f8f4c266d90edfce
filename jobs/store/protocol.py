"""The seam between what is known of the work and those who do it or show it.

Two stores stand behind it: SQL (the product) and memory (its twin for tests); both pass the same contract tests. Each
method is one transaction. Writes under a lease are conditional on its epoch and raise StaleLease when it has passed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from jobs.cell import Cell
from jobs.store.records import CellFile, CellRecord, Event, Lease, Page, SweepRecord

MAX_ATTEMPTS = 3
"""A cell whose engine dies is leased again until it has been tried this often."""


class Store(Protocol):
    """Sweeps, cells, leases and events, durable the moment a call returns."""

    def create_sweep(
        self, *, name: str, spec: Mapping[str, Any], cells: Sequence[Cell], idempotency_key: str | None = None
    ) -> SweepRecord:
        """Store a planned sweep and link its cells, those known already included; it is in progress at once.

        Cells that failed in an earlier sweep are pending again. The same key with the same spec returns the first
        sweep; with another spec it raises InvalidRequest (param `Idempotency-Key`).
        """
        ...

    def get_sweep(self, sweep_id: str) -> SweepRecord:
        """Return a sweep; NotFound if there is none."""
        ...

    def list_sweeps(self, *, after: str | None = None, limit: int = 20) -> Page[SweepRecord]:
        """Return sweeps, newest first, those after the id `after`."""
        ...

    def list_cells(self, sweep_id: str, *, after: str | None = None, limit: int = 100) -> Page[CellRecord]:
        """Return a sweep's cells in the plan's order; NotFound if there is no such sweep."""
        ...

    def lease_cells(self, owner: str, *, models: Sequence[str], limit: int, ttl: float) -> list[Lease]:
        """Lease up to `limit` pending cells of sweeps in progress on one of `models`, the oldest sweep's first."""
        ...

    def heartbeat(self, lease: Lease, *, ttl: float) -> Lease:
        """Extend a lease; StaleLease when it has passed to another, or when no sweep wants the cell any more.

        In the second case the cell is pending again at once, so that the sweeps being cancelled can end.
        """
        ...

    def complete_cell(self, lease: Lease, file: CellFile) -> None:
        """Say that a cell's file is published; its sweeps get an event and, with their last cell, become finalizing."""
        ...

    def fail_cell(self, lease: Lease, error: str, *, retry: bool) -> None:
        """Give a cell back with its error: pending again if `retry` and attempts are left, else failed."""
        ...

    def release(self, lease: Lease) -> None:
        """Give a cell back untried; the attempt is not counted."""
        ...

    def expire_leases(self) -> int:
        """Make cells whose lease has run out pending again (or failed, with no attempt left); return how many."""
        ...

    def reset_cell(self, cell_id: str, reason: str) -> None:
        """Make a completed cell pending again because its file is lost or damaged; finalizing sweeps go on with it.

        Nothing happens to a cell that is not completed any more; NotFound if there is no such cell.
        """
        ...

    def cancel_sweep(self, sweep_id: str) -> SweepRecord:
        """Stop a sweep: no new cell of it is leased. It is cancelled once its running cells have ended.

        A sweep that has ended or is finalizing raises Conflict; one that is being cancelled is returned as it stands.
        """
        ...

    def finalizing(self) -> list[str]:
        """Return the ids of sweeps whose cells have all ended and whose results wait to be put together."""
        ...

    def finish_sweep(self, sweep_id: str, *, error: str | None = None) -> SweepRecord:
        """Move a finalizing sweep to completed, or to failed with `error`; Conflict for one that is not finalizing."""
        ...

    def events(self, sweep_id: str, *, after: int = 0, limit: int = 1000) -> list[Event]:
        """Return a sweep's events with an id above `after`, in order; NotFound if there is no such sweep."""
        ...

    def close(self) -> None:
        """Let go of the database."""
        ...
