"""State machine of a cell: leased, extended, ended, reset. Pure functions.

A failure counts against a cell's attempts only if the cell must have caused it: it was alone on the engine, or the
engine survived. If an engine dies with several cells in flight, each of them is a suspect and runs exclusively from
then on, so that a cell that kills engines cannot fail its neighbours. An expired lease is the fault of its owner; it
counts as a lapse, and more lapses than attempts are allowed. Every way to fail is bounded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from jobs.cell import Cell
from jobs.store.records import CellFile, CellOutcome, CellRecord, CellReport, Lease
from jobs.store.sweep_state import CellCounts
from jobs.store.transitions import CELL_MOVES, CellState

CellEvent = tuple[str, Mapping[str, object]]
"""The kind of an event, and what it says of the cell."""

MAX_ATTEMPTS = 3
"""A cell that fails by its own fault is leased again until it has been tried this often."""

MAX_EXPIRATIONS = 10
"""A cell is given up when its lease has run out this often."""


@dataclass(kw_only=True)
class CellStateMachine:
    """One cell's books. `attempts` counts the present lease; `samples` are those there are (see `CellRecord`)."""

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
        """The cell as it stands."""
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
        """What of it counts in its sweeps' books."""
        failed_samples = 0 if self.file is None else self.file.failed_samples
        return CellCounts(state=self.state, samples=self.samples, failed_samples=failed_samples)

    @property
    def has_failed(self) -> bool:
        """Whether it holds no answer at all, so that a sweep that asks for it computes it anew."""
        return self.state is CellState.FAILED or (self.file is not None and self.file.has_no_answer)

    def held_under(self, lease: Lease) -> bool:
        """Whether the lease is the one that counts."""
        return self.state is CellState.LEASED and self.epoch == lease.epoch

    @property
    def held(self) -> Lease:
        """The lease under which the cell is out."""
        assert self.owner is not None, "a leased cell has an owner"
        assert self.expires_at is not None, "a lease ends"
        return Lease(
            cell=self.cell,
            owner=self.owner,
            epoch=self.epoch,
            expires_at=self.expires_at,
            exclusive=self.quarantined,
            tries=self.attempts + self.expirations,
        )

    # Each change returns the event that says so, or None where there is nothing to say.

    def lease(self, owner: str, expires_at: float) -> None:
        """Give the cell out, under a new epoch."""
        self._move(CellState.LEASED)
        self.attempts += 1
        self.epoch += 1
        self.owner, self.expires_at, self.samples = owner, expires_at, 0

    def beat(self, samples: int, expires_at: float) -> CellEvent | None:
        """Extend the lease, and note how many samples are done."""
        before, self.samples, self.expires_at = self.samples, samples, expires_at
        return None if samples == before else ("cell.progress", {"cell_samples": samples})

    def end(self, report: CellReport) -> CellEvent | None:
        """Take the cell back from its lease's holder."""
        self._take_back(report.error)
        if report.outcome is CellOutcome.COMPLETED:
            assert report.file is not None, "a completed cell has a file"
            self._move(CellState.COMPLETED)
            self.file, self.samples, self.quarantined, self.expirations = report.file, report.file.rows, False, 0
            return "cell.completed", {}
        if report.outcome is CellOutcome.RELEASED:
            self._untried()
            return None if report.error is None else self._with_error("cell.retrying")
        if report.outcome is CellOutcome.SUSPECT and not self.quarantined:
            self._untried()
            self.quarantined = True
            return self._with_error("cell.retrying")
        return self._again(report.outcome is not CellOutcome.REJECTED and self.attempts < MAX_ATTEMPTS)

    def abandon(self) -> CellEvent | None:
        """Take the cell back because no sweep wants it any more."""
        self._take_back(None)
        self._untried()
        return None

    def expire(self) -> CellEvent:
        """Take the cell back from an owner who was not heard of in time."""
        self._take_back(f"the lease of {self.owner} ran out")
        self.expirations += 1
        self.attempts -= 1
        return self._again(self.expirations < MAX_EXPIRATIONS)

    def reset(self, reason: str | None) -> CellEvent:
        """Make a cell that had ended new, but for its epoch: files of old epochs may still appear."""
        self._move(CellState.PENDING)
        self.attempts, self.expirations, self.quarantined, self.samples = 0, 0, False, 0
        self.file, self.error = None, reason
        return self._with_error("cell.reset")

    def _take_back(self, error: str | None) -> None:
        self.owner, self.expires_at, self.error, self.samples = None, None, error, 0

    def _again(self, again: bool) -> CellEvent:
        self._move(CellState.PENDING if again else CellState.FAILED)
        return self._with_error("cell.retrying" if again else "cell.failed")

    def _with_error(self, kind: str) -> CellEvent:
        return kind, {} if self.error is None else {"error": self.error}

    def _untried(self) -> None:
        self._move(CellState.PENDING)
        self.attempts -= 1

    def _move(self, target: CellState) -> None:
        assert target in CELL_MOVES[self.state], f"cell {self.cell.id} cannot go from {self.state} to {target}"
        self.state = target
