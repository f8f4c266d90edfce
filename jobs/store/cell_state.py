"""State machine of a cell: leased, extended, ended, reset. Pure functions.

A failure counts against a cell's attempts only if the cell must have caused it: it was alone on the engine, or the
engine survived. If an engine dies with several cells in flight, each of them is quarantined: it runs exclusively from
then on, so that a cell that kills engines cannot fail its neighbours. An expired lease is the fault of its owner; it
counts as an expiration, and more expirations than attempts are allowed. Every way to fail is bounded.

This module knows no database. `jobs.store.sql.rows` converts between state machines and rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from jobs.cell import Cell
from jobs.store.records import CellFile, CellOutcome, CellRecord, CellReport, Heartbeat, Lease
from jobs.store.sweep_state import CellCounts
from jobs.store.transitions import CELL_MOVES, CellState

CellEvent = tuple[str, Mapping[str, object]]
"""The type of an event and its data about the cell."""

MAX_ATTEMPTS = 3
"""How many counted attempts a cell gets before it is failed."""

MAX_EXPIRATIONS = 10
"""How many times the lease of a cell may expire before the cell is failed."""


@dataclass(kw_only=True)
class CellStateMachine:
    """State of one cell.

    Methods that change the state return the event to emit, or None if there is none.

    Attributes:
        cell: What is computed.
        state: Where the cell is in its life cycle.
        attempts: Counted attempts, including that of the current lease.
        expirations: How many leases have expired since the last completion or reset.
        quarantined: Whether the cell must run exclusively, because an engine died with it and others in flight.
        epoch: Number of leases so far; a write under an older epoch is rejected.
        owner: Holder of the current lease; None if the cell is not leased.
        expires_at: End of the current lease, in seconds since 1970.
        error: Why the cell was last returned without a result.
        file: The published file of a completed cell.
        samples: Available samples (see `CellRecord`).
    """

    cell: Cell
    state: CellState = CellState.PENDING
    attempts: int = 0
    expirations: int = 0
    quarantined: bool = False
    epoch: int = 0
    owner: str | None = None
    expires_at: float | None = None
    error: str | None = None
    file: CellFile | None = None
    samples: int = 0

    @property
    def record(self) -> CellRecord:
        """The state as the store returns it."""
        file = self.file
        return CellRecord(
            cell=self.cell,
            state=self.state,
            attempts=self.attempts,
            error=self.error,
            file=None if file is None else file.name,
            rows=None if file is None else file.rows,
            sha256=None if file is None else file.sha256,
            samples=self.samples,
            failed_samples=0 if file is None else file.failed_samples,
            sample_error=None if file is None else file.sample_error,
        )

    @property
    def counts(self) -> CellCounts:
        """What the cell contributes to the counts of its sweeps."""
        failed_samples = 0 if self.file is None else self.file.failed_samples
        return CellCounts(state=self.state, samples=self.samples, failed_samples=failed_samples)

    @property
    def has_failed(self) -> bool:
        """Whether the cell has no usable result, so that a new sweep that needs it computes it again."""
        return self.state is CellState.FAILED or (self.file is not None and self.file.has_no_answer)

    def is_held_under(self, lease: Lease) -> bool:
        """Return whether a lease is the current one."""
        return self.state is CellState.LEASED and self.epoch == lease.epoch

    @property
    def current_lease(self) -> Lease:
        """The lease of a leased cell."""
        assert self.owner is not None, "a leased cell has an owner"
        assert self.expires_at is not None, "a lease has an end"
        return Lease(
            cell=self.cell,
            owner=self.owner,
            epoch=self.epoch,
            expires_at=self.expires_at,
            exclusive=self.quarantined,
            tries=self.attempts + self.expirations,
        )

    def lease(self, owner: str, expires_at: float) -> None:
        """Lease the cell under a new epoch."""
        self._move(CellState.LEASED)
        self.attempts += 1
        self.epoch += 1
        self.owner, self.expires_at, self.samples = owner, expires_at, 0

    def heartbeat(self, heartbeat: Heartbeat, expires_at: float) -> CellEvent | None:
        """Extend the lease and record how many samples are done, or how far the identification of its neurons is."""
        previous, self.samples, self.expires_at = self.samples, heartbeat.samples, expires_at
        if heartbeat.samples != previous:
            return "cell.progress", {"cell_samples": heartbeat.samples}
        if heartbeat.recording is not None and self.cell.neurons is not None:
            return "cell.finding_neurons", {"neuron_set": self.cell.neurons.id, **heartbeat.recording.to_dict()}
        return None

    def end(self, report: CellReport) -> CellEvent | None:
        """End the lease with the outcome that its holder reports."""
        self._end_lease(report.error)
        if report.outcome is CellOutcome.COMPLETED:
            assert report.file is not None, "a completed cell has a file"
            self._move(CellState.COMPLETED)
            self.file, self.samples, self.quarantined, self.expirations = report.file, report.file.rows, False, 0
            return "cell.completed", {}
        if report.outcome is CellOutcome.RELEASED:
            self._release()
            return None if report.error is None else self._with_error("cell.retrying")
        if report.outcome is CellOutcome.SUSPECT and not self.quarantined:
            self._release()
            self.quarantined = True
            return self._with_error("cell.retrying")
        return self._retry_or_fail(report.outcome is not CellOutcome.REJECTED and self.attempts < MAX_ATTEMPTS)

    def abandon(self) -> CellEvent | None:
        """End the lease because no sweep needs the cell any more."""
        self._end_lease(None)
        self._release()
        return None

    def expire(self) -> CellEvent:
        """End a lease that was not extended in time."""
        self._end_lease(f"the lease of {self.owner} ran out")
        self.expirations += 1
        self.attempts -= 1
        return self._retry_or_fail(self.expirations < MAX_EXPIRATIONS)

    def reset(self, reason: str | None) -> CellEvent:
        """Make an ended cell pending again. It keeps its epoch: files of older epochs may still be published."""
        self._move(CellState.PENDING)
        self.attempts, self.expirations, self.quarantined, self.samples = 0, 0, False, 0
        self.file, self.error = None, reason
        return self._with_error("cell.reset")

    def _end_lease(self, error: str | None) -> None:
        self.owner, self.expires_at, self.error, self.samples = None, None, error, 0

    def _retry_or_fail(self, retry: bool) -> CellEvent:
        self._move(CellState.PENDING if retry else CellState.FAILED)
        return self._with_error("cell.retrying" if retry else "cell.failed")

    def _with_error(self, kind: str) -> CellEvent:
        return kind, {} if self.error is None else {"error": self.error}

    def _release(self) -> None:
        self._move(CellState.PENDING)
        self.attempts -= 1

    def _move(self, target: CellState) -> None:
        assert target in CELL_MOVES[self.state], f"cell {self.cell.id} cannot go from {self.state} to {target}"
        self.state = target
