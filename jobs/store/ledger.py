"""What a sweep's state, counts and events become when its cells move. Pure: both stores keep their books with it.

The rules, whatever the order of moves: counts are those of the cells' states; a sweep in progress whose cells have all
ended is finalizing, and a finalizing one of which a cell must be computed again is in progress; a cancelling one is
cancelled once none of its cells is leased; the ids of its events grow by one. An ended sweep never changes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ampsweep.errors import Conflict
from jobs.store.records import Event, RequestCounts
from jobs.store.states import SWEEP_ENDED, SWEEP_MOVES, CellState, SweepState


@dataclass(kw_only=True)
class Ledger:
    """One sweep's books inside one transaction; `news` are the events it adds, `last_event` the id of the last one."""

    sweep_id: str
    state: SweepState
    total: int
    completed: int
    failed: int
    reused: int
    last_event: int = 0
    ended_at: float | None = None
    error: str | None = None
    news: list[Event] = field(default_factory=list)

    @property
    def counts(self) -> RequestCounts:
        """The counts as they stand."""
        return RequestCounts(total=self.total, completed=self.completed, failed=self.failed, reused=self.reused)

    def say(self, kind: str, now: float, **data: Any) -> None:
        """Add an event; its data carry the state and the counts, so that whoever joins late can draw progress."""
        self.last_event += 1
        full: Mapping[str, Any] = {"status": self.state.value, "request_counts": vars(self.counts), **data}
        self.news.append(Event(id=self.last_event, sweep_id=self.sweep_id, type=kind, data=full, created_at=now))

    def move(self, target: SweepState, now: float, **data: Any) -> None:
        """Move the sweep and say so; Conflict for a move that is not in the table."""
        if target not in SWEEP_MOVES[self.state]:
            raise Conflict(f"sweep {self.sweep_id} is {self.state.value}; it cannot become {target.value}")
        self.state = target
        if target in SWEEP_ENDED:
            self.ended_at = now
        self.say(f"sweep.{target.value}", now, **data)

    def cell_moved(self, before: CellState, after: CellState, kind: str | None, now: float, **data: Any) -> None:
        """Count a cell's move, and say so if `kind` names an event."""
        self.completed += (after is CellState.COMPLETED) - (before is CellState.COMPLETED)
        self.failed += (after is CellState.FAILED) - (before is CellState.FAILED)
        if kind is not None:
            self.say(kind, now, **data)

    def settle(self, now: float, any_leased: Callable[[], bool]) -> None:
        """Move the sweep where its cells have brought it."""
        done = self.completed + self.failed == self.total
        if self.state is SweepState.IN_PROGRESS and done:
            self.move(SweepState.FINALIZING, now)
        elif self.state is SweepState.FINALIZING and not done:
            self.move(SweepState.IN_PROGRESS, now)
        elif self.state is SweepState.CANCELLING and not any_leased():
            self.move(SweepState.CANCELLED, now)

    def cancel(self, now: float) -> None:
        """Start to cancel; nothing happens to a sweep that is being cancelled, Conflict for one that cannot be."""
        if self.state is not SweepState.CANCELLING:
            self.move(SweepState.CANCELLING, now)

    def finish(self, error: str | None, now: float) -> None:
        """End a finalizing sweep."""
        self.error = error
        self.move(SweepState.COMPLETED if error is None else SweepState.FAILED, now, error=error)


ACTIVE = frozenset(SweepState) - SWEEP_ENDED
"""Sweeps whose books follow their cells."""
