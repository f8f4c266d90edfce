"""Interface of the store of sweeps, cells, leases and events.

`jobs.store.sql.store` implements it on SQLite and on PostgreSQL. The tests have an independent reference implementation
that the SQL store must agree with. Each method is one transaction. Writes under a lease are conditional on its epoch: a
late write changes nothing.
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
    """Sweeps, cells, leases and events, durable as soon as a call returns.

    Every method raises Unavailable while the database cannot be reached, another program holds a lock on it or the disk
    is full. Methods that take the id of one sweep or cell raise NotFound if there is none. Times are in seconds since
    1970, durations in seconds.
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
        """Store a planned sweep, which is in progress at once, and link its cells, new and known ones.

        A known cell that failed, or all of whose samples failed, becomes pending again.

        Args:
            name: Name of the sweep.
            spec: The spec as JSON.
            cells: The planned cells, all of one model.
            idempotency_key: A second call with the same key and the same spec returns the first sweep.
            owner: Who submitted the sweep.
            priority: Cells of sweeps of higher priority are leased first.
            warnings: Warnings of the plan.

        Raises:
            InvalidRequest: The key was used with another spec (param `Idempotency-Key`).
        """
        ...

    def sweep_of_key(self, idempotency_key: str, spec: Mapping[str, Any]) -> SweepRecord | None:
        """Return the sweep that was created with a key; None if there is none.

        Raises:
            InvalidRequest: The key was used with another spec (param `Idempotency-Key`).
        """
        ...

    def get_sweep(self, sweep_id: str) -> SweepRecord:
        """Return a sweep."""
        ...

    def list_sweeps(
        self, *, after: str | None = None, limit: int = 20, tags: Sequence[str] = (), text: str = ""
    ) -> Page[SweepRecord]:
        """Return a page of sweeps, newest first.

        Args:
            after: The id of the sweep before the page.
            limit: Maximum length of the page.
            tags: Only sweeps that have all of these tags.
            text: Only sweeps with this text in their name, model or id, in upper or lower case.
        """
        ...

    def list_cells(
        self, sweep_id: str, *, after: str | None = None, limit: int = 100, only_failures: bool = False
    ) -> Page[CellRecord]:
        """Return a page of a sweep's cells in the order of the plan, starting after the id `after`.

        With `only_failures`, return only cells that failed or have failed samples.
        """
        ...

    def first_reasons(self, sweep_ids: Sequence[str]) -> Mapping[str, str]:
        """Return the error of each sweep's first cell, in the order of the plan, that failed or has failed samples.

        Sweeps without such a cell and unknown ids are left out.
        """
        ...

    def lease_cells(
        self, owner: str, *, models: Sequence[str], limit: int, ttl: float, exclusive: int = 0
    ) -> list[Lease]:
        """Lease pending cells of sweeps in progress, allocated as described in `jobs.store.fair_share`.

        Args:
            owner: The holder of the leases.
            models: Names of models. Only cells of sweeps with one of these names are leased, under the name that the
                sweep has for its model.
            limit: How many cells to lease at most.
            ttl: Duration of the leases.
            exclusive: How many of the cells may be quarantined ones, which must run exclusively. They come first.
        """
        ...

    def heartbeat(self, heartbeats: Sequence[Heartbeat], *, ttl: float) -> list[Lease]:
        """Extend leases and record the progress of their cells; return the leases that are lost.

        A lease is lost if the cell has been leased again since, or if no sweep needs the cell any more. In the second
        case the cell becomes pending at once, so that the sweeps being cancelled can end.
        """
        ...

    def report(self, reports: Sequence[CellReport]) -> list[Lease]:
        """Record how the work under leases ended; return the leases that were lost, for which nothing was written.

        The sweeps of the cells get events. A sweep becomes finalizing with its last cell.
        """
        ...

    def expire_leases(self) -> int:
        """End all overdue leases; return how many there were."""
        ...

    def reset_cell(self, cell_id: str, reason: str, *, file: str | None = None) -> None:
        """Make a completed cell pending again because its file is lost or damaged.

        Finalizing sweeps that need the cell are in progress again. Does nothing if the cell is no longer completed, or
        if `file` is given and is not the cell's current file.
        """
        ...

    def cancel_sweep(self, sweep_id: str) -> SweepRecord:
        """Stop leasing cells of a sweep. It is cancelled once its running cells have ended.

        Does nothing if the sweep is being cancelled already.

        Raises:
            Conflict: The sweep has ended or is finalizing.
        """
        ...

    def pause_sweep(self, sweep_id: str) -> SweepRecord:
        """Stop leasing cells of a sweep until it is resumed; running cells continue.

        Raises:
            Conflict: The sweep is neither in progress nor paused.
        """
        ...

    def resume_sweep(self, sweep_id: str) -> SweepRecord:
        """Resume a paused sweep.

        Raises:
            Conflict: The sweep is neither paused nor in progress.
        """
        ...

    def update_sweep(self, sweep_id: str, *, name: str | None = None, tags: Sequence[str] | None = None) -> SweepRecord:
        """Change the name of a sweep, its tags, or both; None keeps them. Its spec keeps the name it was sent with."""
        ...

    def delete_sweep(self, sweep_id: str) -> None:
        """Delete an ended sweep: no method but `sweep_files` knows it any more.

        Its results, its events and what only it needs are removed by `erase_deleted`. A request with the idempotency
        key of the sweep creates a new one.

        Raises:
            Conflict: The sweep has not ended.
        """
        ...

    def erase_deleted(self) -> int:
        """Remove what deleted sweeps still have in the database; return the number of these sweeps.

        Uses many short transactions; the next call continues an interrupted one. Cells that an unexpired sweep needs
        are kept; the others become pending.
        """
        ...

    def finalizing(self) -> list[str]:
        """Return the ids of the finalizing sweeps that are not leased, oldest first."""
        ...

    def lease_sweep(self, sweep_id: str, owner: str, *, ttl: float) -> SweepLease | None:
        """Lease a finalizing sweep; return None if it is leased already or not finalizing."""
        ...

    def extend_sweep_leases(self, leases: Sequence[SweepLease], *, ttl: float) -> list[SweepLease]:
        """Make leases of sweeps end `ttl` seconds from now; return the leases that are lost.

        The leases of deleted sweeps are.
        """
        ...

    def extend_sweep(self, lease: SweepLease, cells: Sequence[Cell]) -> SweepRecord:
        """Append cells to a leased sweep. They are treated like those of a new sweep.

        The sweep is in progress afterwards, or finalizing if all of the cells are completed already.

        Raises:
            Conflict: The lease is lost.
        """
        ...

    def finish_sweep(
        self, lease: SweepLease, *, files: SweepFiles | None = None, error: str | None = None
    ) -> SweepRecord:
        """Complete a leased sweep, or fail it if `error` is given.

        Raises:
            Conflict: The lease is lost.
        """
        ...

    def reopen_sweep(self, sweep_id: str, reason: str) -> SweepRecord:
        """Make a completed or failed sweep finalizing again because its files are lost or damaged.

        Does nothing if the sweep has not ended.

        Raises:
            Conflict: The sweep was cancelled, or its results have expired.
        """
        ...

    def expire_results(self, before: float) -> Sequence[str]:
        """Expire the results of up to 1000 sweeps that ended before a time; return their ids.

        Uses many short transactions, one sweep after another; the next call continues an interrupted one. Cells that an
        unexpired sweep needs are kept; the others become pending.
        """
        ...

    def prune_events(self, before: float) -> int:
        """Delete the `cell.*` events of sweeps that ended before a time; return how many there were.

        The `sweep.*` events stay and keep their ids. Uses many short transactions.
        """
        ...

    def sweep_files(self, sweep_ids: Sequence[str]) -> Mapping[str, SweepFilesState]:
        """Return the current files of sweeps by id; unknown ids are left out. A deleted sweep has no files."""
        ...

    def cell_files(self, cell_ids: Sequence[str]) -> Mapping[str, CellFileState]:
        """Return the current files of cells by id; unknown ids are left out."""
        ...

    def events(self, sweep_id: str, *, after: int = 0, limit: int = 1000) -> list[Event]:
        """Return a sweep's events whose id is greater than `after`, in order."""
        ...

    def stats(self) -> StoreStats:
        """Count sweeps, cells and leases, for metrics."""
        ...

    def close(self) -> None:
        """Close the database."""
        ...
