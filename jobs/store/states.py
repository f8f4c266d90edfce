"""The states of sweeps and cells, and the one table of moves between them.

A move that is not in the table cannot be written: every update names the states it may come from.
"""

from __future__ import annotations

from enum import StrEnum


class SweepState(StrEnum):
    """Where a sweep stands, in the words of OpenAI's Batch API."""

    VALIDATING = "validating"
    IN_PROGRESS = "in_progress"
    FINALIZING = "finalizing"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"


class CellState(StrEnum):
    """Where a cell stands. A cell is shared by all sweeps that need it, so it is never cancelled, only not leased."""

    PENDING = "pending"
    LEASED = "leased"
    COMPLETED = "completed"
    FAILED = "failed"


SWEEP_MOVES: dict[SweepState, frozenset[SweepState]] = {
    SweepState.VALIDATING: frozenset({SweepState.IN_PROGRESS, SweepState.FAILED, SweepState.CANCELLING}),
    SweepState.IN_PROGRESS: frozenset({SweepState.FINALIZING, SweepState.FAILED, SweepState.CANCELLING}),
    # Back to in_progress: a cell's file turned out to be lost or damaged, or a failed cell got a new chance.
    SweepState.FINALIZING: frozenset({SweepState.COMPLETED, SweepState.FAILED, SweepState.IN_PROGRESS}),
    SweepState.CANCELLING: frozenset({SweepState.CANCELLED}),
    SweepState.COMPLETED: frozenset(),
    SweepState.FAILED: frozenset(),
    SweepState.CANCELLED: frozenset(),
}

CELL_MOVES: dict[CellState, frozenset[CellState]] = {
    CellState.PENDING: frozenset({CellState.LEASED}),
    CellState.LEASED: frozenset({CellState.PENDING, CellState.COMPLETED, CellState.FAILED}),
    CellState.COMPLETED: frozenset({CellState.PENDING}),  # its file is lost or damaged: compute it again
    CellState.FAILED: frozenset({CellState.PENDING}),  # a new sweep asks for it: a new chance
}

SWEEP_ENDED = frozenset(state for state, moves in SWEEP_MOVES.items() if not moves)


def cell_may_come_from(target: CellState) -> frozenset[CellState]:
    """Return the states from which a cell may move to `target`."""
    return frozenset(state for state, moves in CELL_MOVES.items() if target in moves)
