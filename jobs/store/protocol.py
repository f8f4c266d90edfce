"""Interface of the store of sweeps, cells, leases and events.

`jobs.store.sql` implements it on SQLite and on PostgreSQL. The tests have an independent reference implementation that
the SQL store must agree with. Each method is one transaction. Writes under a lease are conditional on its epoch: a late
write changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from jobs.cell import Cell
from jobs.store.records import (
    CellFileState,
    CellRecord,
    CellReport,
    Event,
    Heartbeat,
    Lease,
    Page,
    StoreStats,
    SweepFiles,
    SweepFilesState,
    SweepLease,
    SweepRecord,
)


class Store(Protocol):
    """Sweeps, cells, leases and events, durable the moment a call returns.

    Any call raises Unavailable while the database cannot be reached, is locked by somebody else or has no room.
    """

    def create_sweep(
        self,
        *,
        name: str,
        spec: Mapping[str, Any],
        cells: Sequence[Cell],
        idempotency_key: str | None = None,
        owner: str = "",
        priority: int = 0,
        warnings: Sequence[str] = (),
    ) -> SweepRecord:
        """Store a planned sweep and link its cells, those known already included; it is in progress at once.

        `warnings` are those of its plan. A cell that failed in an earlier sweep, or all of whose samples failed, is
        pending again.
        The same key with the same spec returns the first sweep; with another spec it raises InvalidRequest (param
        `Idempotency-Key`).
        """
        ...

    def sweep_of_key(self, idempotency_key: str, spec: Mapping[str, Any]) -> SweepRecord | None:
        """Return the sweep that was created with a key; None if there is none, InvalidRequest if its spec differs."""
        ...

    def get_sweep(self, sweep_id: str) -> SweepRecord:
        """Return a sweep; NotFound if there is none."""
        ...

    def list_sweeps(self, *, after: str | None = None, limit: int = 20) -> Page[SweepRecord]:
        """Return sweeps, newest first, those after the id `after`."""
        ...

    def list_cells(
        self, sweep_id: str, *, after: str | None = None, limit: int = 100, only_failures: bool = False
    ) -> Page[CellRecord]:
        """Return a sweep's cells in the plan's order; NotFound if there is no such sweep.

        With `only_failures` those alone that failed or have failed samples.
        """
        ...

    def lease_cells(
        self, owner: str, *, models: Sequence[str], limit: int, ttl: float, exclusive: int = 0
    ) -> list[Lease]:
        """Lease up to `limit` pending cells of sweeps in progress on one of `models`.

        They are allocated as `jobs.store.fair_share` says. The first ones, at most `exclusive`, are cells that must run
        alone.
        """
        ...

    def heartbeat(self, beats: Sequence[Heartbeat], *, ttl: float) -> list[Lease]:
        """Extend leases and note their progress; return those that are lost.

        A lease is lost when it has passed to another, or when no sweep wants the cell any more. In the second case the
        cell is pending again at once, so that the sweeps being cancelled can end.
        """
        ...

    def report(self, reports: Sequence[CellReport]) -> list[Lease]:
        """Say how work under leases has ended; return the leases that had passed, of which nothing was written.

        The cells' sweeps get events and, with their last cell, become finalizing.
        """
        ...

    def expire_leases(self) -> int:
        """Take back the cells whose lease has run out; return how many."""
        ...

    def reset_cell(self, cell_id: str, reason: str, *, file: str | None = None) -> None:
        """Make a completed cell pending again because its file is lost or damaged; finalizing sweeps go on with it.

        Nothing happens to a cell that is not completed any more, or that has another file than `file` by now; NotFound
        if there is no such cell.
        """
        ...

    def cancel_sweep(self, sweep_id: str) -> SweepRecord:
        """Stop a sweep: no new cell of it is leased. It is cancelled once its running cells have ended.

        A sweep that has ended or is finalizing raises Conflict; one that is being cancelled is returned as it stands.
        """
        ...

    def pause_sweep(self, sweep_id: str) -> SweepRecord:
        """Lease no new cell of a sweep until it is resumed; what runs goes on. Conflict unless it is in progress."""
        ...

    def resume_sweep(self, sweep_id: str) -> SweepRecord:
        """Let a paused sweep go on; Conflict unless it is paused or in progress."""
        ...

    def finalizing(self) -> list[str]:
        """Return the ids of the finalizing sweeps that nobody has leased, the oldest first."""
        ...

    def lease_sweep(self, sweep_id: str, owner: str, *, ttl: float) -> SweepLease | None:
        """Lease a finalizing sweep to put its results together; None where another has it, or it is not finalizing."""
        ...

    def extend_sweep_leases(self, leases: Sequence[SweepLease], *, ttl: float) -> list[SweepLease]:
        """Let leases of sweeps end `ttl` seconds from now; return those that have passed."""
        ...

    def extend_sweep(self, lease: SweepLease, cells: Sequence[Cell]) -> SweepRecord:
        """Give a leased sweep further cells, after those it has; Conflict where the lease has passed.

        They are treated as those of a new sweep are. It is in progress then, or, where all of them are completed
        already, finalizing again.
        """
        ...

    def finish_sweep(
        self, lease: SweepLease, *, files: SweepFiles | None = None, error: str | None = None
    ) -> SweepRecord:
        """Move a leased sweep to completed, or to failed with `error`; Conflict where the lease has passed."""
        ...

    def reopen_sweep(self, sweep_id: str, reason: str) -> SweepRecord:
        """Make a completed or failed sweep finalizing again because its files are lost or damaged.

        Nothing happens to one that is being worked on; Conflict for one that was cancelled or has expired.
        """
        ...

    def expire_results(self, before: float) -> Sequence[str]:
        """Forget the results of sweeps that ended before a time, the first 1000; return their ids.

        It writes in many short transactions, a sweep after the other; one that breaks off is taken up by the next call.
        A cell that a sweep not expired needs is kept; any other is pending again, should it ever be asked for.
        """
        ...

    def prune_events(self, before: float) -> int:
        """Delete what is told of single cells in the events of sweeps that ended before a time; return how many.

        The events of the sweep itself stay, with their ids. It writes in many short transactions.
        """
        ...

    def sweep_files(self, sweep_ids: Sequence[str]) -> Mapping[str, SweepFilesState]:
        """Return what is known of the files of sweeps; those unknown are missing."""
        ...

    def cell_files(self, cell_ids: Sequence[str]) -> Mapping[str, CellFileState]:
        """Return what is known of the files of cells; those unknown are missing."""
        ...

    def events(self, sweep_id: str, *, after: int = 0, limit: int = 1000) -> list[Event]:
        """Return a sweep's events with an id above `after`, in order; NotFound if there is no such sweep."""
        ...

    def stats(self) -> StoreStats:
        """Count what there is, for those who watch."""
        ...

    def close(self) -> None:
        """Let go of the database."""
        ...
