"""State machine of a sweep: updates state, cell counts and events as cells change state. Pure functions.

These rules hold for any order of changes. The counts are those of the states of the cells. A sweep whose cells have all
ended is finalizing. A finalizing sweep goes back to in progress if a cell must be computed again or further cells are
added. A cancelling sweep is cancelled once none of its cells is leased. Event ids increase by one. An ended sweep
changes only if its files turn out to be damaged: then its cells are counted again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ampsweep.errors import Conflict
from jobs.store.lease_time import is_over
from jobs.store.records import Event, RequestCounts, SweepFiles, SweepLease
from jobs.store.transitions import SWEEP_ENDED, SWEEP_MOVES, SWEEP_RUNNING, CellState, SweepState


@dataclass(frozen=True, kw_only=True)
class CellCounts:
    """What one cell contributes to the counts of its sweeps."""

    state: CellState
    samples: int
    failed_samples: int = 0


@dataclass(kw_only=True)
class SweepStateMachine:
    """State, counts and new events of one sweep within one transaction.

    Attributes:
        total: Number of cells.
        completed: Completed cells.
        failed: Failed cells.
        leased: Cells that are being computed.
        reused: Cells that were completed already when they were added.
        samples: Samples of completed and running cells.
        failed_samples: Samples with an error instead of an answer.
        served_at: When a cell of the sweep was last leased.
        first_pending: No cell at a lower position of the plan is pending, except quarantined ones.
        last_event: Id of the last event.
        finalizer: Holder of the lease on a finalizing sweep; None if it is not leased.
        finalizer_epoch: Number of leases on the sweep so far.
        finalizer_expires_at: End of the current lease.
        pending_events: Events that the transaction has yet to write.
    """

    sweep_id: str
    state: SweepState
    total: int
    completed: int = 0
    failed: int = 0
    leased: int = 0
    reused: int = 0
    samples: int = 0
    failed_samples: int = 0
    served_at: float = 0.0
    first_pending: int = 0
    last_event: int = 0
    ended_at: float | None = None
    error: str | None = None
    files: SweepFiles | None = None
    finalizer: str | None = None
    finalizer_epoch: int = 0
    finalizer_expires_at: float | None = None
    pending_events: list[Event] = field(default_factory=list)

    @property
    def counts(self) -> RequestCounts:
        """The numbers of cells as the store returns them."""
        return RequestCounts(total=self.total, completed=self.completed, failed=self.failed, reused=self.reused)

    @property
    def pending(self) -> int:
        """Number of cells that are neither leased nor ended."""
        return self.total - self.completed - self.failed - self.leased

    def emit(self, kind: str, now: float, **data: Any) -> None:
        """Add an event. Its data contain the state and all counts, so that late subscribers can show progress."""
        self.last_event += 1
        full_data: Mapping[str, Any] = {
            "status": self.state.value,
            "request_counts": vars(self.counts),
            "samples": self.samples,
            "failed_samples": self.failed_samples,
            **data,
        }
        self.pending_events.append(
            Event(id=self.last_event, sweep_id=self.sweep_id, type=kind, data=full_data, created_at=now)
        )

    def check(self, target: SweepState) -> None:
        """Raise Conflict if the transition is not in the table."""
        if target not in SWEEP_MOVES[self.state]:
            raise self._cannot_become(target)

    def move(self, target: SweepState, now: float, **data: Any) -> None:
        """Move the sweep to a state and emit the event; raise Conflict if the transition is not in the table."""
        self.check(target)
        self.state = target
        self.finalizer = self.finalizer_expires_at = None
        self.ended_at = now if target in SWEEP_ENDED else None
        self.emit(f"sweep.{target.value}", now, **data)

    def count(self, cells: Iterable[CellCounts]) -> None:
        """Recompute the counts from all cells."""
        self.completed = self.failed = self.leased = self.samples = self.failed_samples = self.first_pending = 0
        for counts in cells:
            self._add(counts, 1)

    def cell_moved(self, before: CellCounts, after: CellCounts, kind: str | None, now: float, **data: Any) -> None:
        """Update the counts for a cell that changed, and emit an event if `kind` is given."""
        self._add(before, -1)
        self._add(after, 1)
        if after.state is CellState.PENDING:
            self.first_pending = 0
        if kind is not None:
            self.emit(kind, now, **data)

    def advance(self, now: float) -> None:
        """Move the sweep to the state that follows from its cells, if that is another one."""
        done = self.completed + self.failed == self.total
        if self.state in SWEEP_RUNNING and done:
            self.move(SweepState.FINALIZING, now)
        elif self.state is SweepState.FINALIZING and not done:
            self.move(SweepState.IN_PROGRESS, now)
        elif self.state is SweepState.CANCELLING and not self.leased:
            self.move(SweepState.CANCELLED, now)

    def cancel(self, now: float) -> None:
        """Start cancelling. Like `pause` and `resume`: no effect in the target state, Conflict if it is unreachable."""
        self._enter(SweepState.CANCELLING, now)

    def pause(self, now: float) -> None:
        """Stop leasing cells until the sweep is resumed."""
        self._enter(SweepState.PAUSED, now)

    def resume(self, now: float) -> None:
        """Resume a paused sweep. A finalizing sweep cannot be resumed; it returns to in_progress by itself."""
        if self.state not in (SweepState.PAUSED, SweepState.IN_PROGRESS):
            raise self._cannot_become(SweepState.IN_PROGRESS)
        self._enter(SweepState.IN_PROGRESS, now)

    def lease(self, owner: str, now: float, ttl: float) -> SweepLease | None:
        """Lease a finalizing sweep; return None if it is leased already or not finalizing."""
        if self.state is not SweepState.FINALIZING or not is_over(self.finalizer_expires_at, now):
            return None
        self.finalizer, self.finalizer_epoch, self.finalizer_expires_at = owner, self.finalizer_epoch + 1, now + ttl
        return SweepLease(
            sweep_id=self.sweep_id, owner=owner, epoch=self.finalizer_epoch, expires_at=self.finalizer_expires_at
        )

    def extend_lease(self, lease: SweepLease, expires_at: float) -> bool:
        """Extend a lease; return False if it is lost."""
        held = self._is_held_under(lease)
        if held:
            self.finalizer_expires_at = expires_at
        return held

    def finish(self, lease: SweepLease, files: SweepFiles | None, error: str | None, now: float) -> None:
        """Complete or fail a finalizing sweep; raise Conflict if it is not finalizing or the lease is lost."""
        self._check_lease(lease)
        self.move(SweepState.COMPLETED if error is None else SweepState.FAILED, now, error=error)
        self.error, self.files = error, files

    def extend(self, lease: SweepLease, cells: Iterable[CellCounts], now: float) -> None:
        """Add cells to a finalizing sweep; those that are completed already count as reused."""
        self._check_lease(lease)
        for counts in cells:
            self.total += 1
            self.reused += counts.state is CellState.COMPLETED
            self._add(counts, 1)
        self.move(SweepState.IN_PROGRESS, now)

    def reopen(self, reason: str, cells: Iterable[CellCounts], now: float) -> None:
        """Finalize an ended sweep again because its files are lost or damaged; recount its cells."""
        self.check(SweepState.FINALIZING)
        self.error, self.files = None, None
        self.count(cells)
        self.move(SweepState.FINALIZING, now, reason=reason)

    def _is_held_under(self, lease: SweepLease) -> bool:
        return self.finalizer is not None and self.finalizer_epoch == lease.epoch

    def _check_lease(self, lease: SweepLease) -> None:
        if self.state is not SweepState.FINALIZING:
            raise Conflict(
                f"sweep {self.sweep_id} is {self.state.value}; it must be finalizing to be finished or extended"
            )
        if not self._is_held_under(lease):
            raise Conflict(f"the lease of {lease.owner} on sweep {self.sweep_id} is no longer valid")

    def _enter(self, target: SweepState, now: float) -> None:
        if self.state is not target:
            self.move(target, now)

    def _cannot_become(self, target: SweepState) -> Conflict:
        return Conflict(f"sweep {self.sweep_id} is {self.state.value}; it cannot become {target.value}")

    def _add(self, counts: CellCounts, sign: int) -> None:
        self.completed += sign * (counts.state is CellState.COMPLETED)
        self.failed += sign * (counts.state is CellState.FAILED)
        self.leased += sign * (counts.state is CellState.LEASED)
        self.samples += sign * counts.samples
        self.failed_samples += sign * counts.failed_samples
