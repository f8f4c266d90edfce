"""The states of sweeps and cells, and the one table of moves between them.

A move that is not in the table cannot be written: every update names the state it comes from.
"""

from __future__ import annotations

from enum import StrEnum


class SweepState(StrEnum):
    """Where a sweep stands, in the words of OpenAI's Batch API."""

    VALIDATING = "validating"
    IN_PROGRESS = "in_progress"
    PAUSED = "paused"
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
    SweepState.IN_PROGRESS: frozenset({SweepState.PAUSED, SweepState.FINALIZING, SweepState.CANCELLING}),
    # To finalizing: the cells that ran when it was paused were its last.
    SweepState.PAUSED: frozenset({SweepState.IN_PROGRESS, SweepState.FINALIZING, SweepState.CANCELLING}),
    # Back to in_progress: a cell's file turned out to be lost or damaged, a failed cell got a new chance, or what came
    # out of the cells says which further ones the sweep needs.
    SweepState.FINALIZING: frozenset({SweepState.COMPLETED, SweepState.FAILED, SweepState.IN_PROGRESS}),
    SweepState.CANCELLING: frozenset({SweepState.CANCELLED}),
    # Back to finalizing: its published files turned out to be lost or damaged, and are put together again.
    SweepState.COMPLETED: frozenset({SweepState.FINALIZING}),
    SweepState.FAILED: frozenset({SweepState.FINALIZING}),
    SweepState.CANCELLED: frozenset(),
}

CELL_MOVES: dict[CellState, frozenset[CellState]] = {
    CellState.PENDING: frozenset({CellState.LEASED}),
    CellState.LEASED: frozenset({CellState.PENDING, CellState.COMPLETED, CellState.FAILED}),
    CellState.COMPLETED: frozenset({CellState.PENDING}),  # its file is lost, damaged or expired: compute it again
    CellState.FAILED: frozenset({CellState.PENDING}),  # a new sweep asks for it: a new chance
}

SWEEP_ENDED = frozenset({SweepState.COMPLETED, SweepState.FAILED, SweepState.CANCELLED})
"""Sweeps of which nothing is computed any more; their counts stay as they are."""

SWEEP_ACTIVE = frozenset(SweepState) - SWEEP_ENDED
"""Sweeps whose books follow their cells."""

SWEEP_RUNNING = frozenset({SweepState.IN_PROGRESS, SweepState.PAUSED})
"""Sweeps whose running cells go on."""
