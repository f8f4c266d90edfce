"""States of sweeps and cells, and the table of transitions between them.

All code that changes a state goes through this table, and every SQL update names the state from which it moves.
"""

from __future__ import annotations

from enum import StrEnum


class SweepState(StrEnum):
    """State of a sweep; the names are those of OpenAI's Batch API."""

    VALIDATING = "validating"
    IN_PROGRESS = "in_progress"
    PAUSED = "paused"
    FINALIZING = "finalizing"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"


class CellState(StrEnum):
    """State of a cell. Sweeps share cells, so a cell is never cancelled; it is only not leased any more."""

    PENDING = "pending"
    LEASED = "leased"
    COMPLETED = "completed"
    FAILED = "failed"


SWEEP_MOVES: dict[SweepState, frozenset[SweepState]] = {
    SweepState.VALIDATING: frozenset({SweepState.IN_PROGRESS, SweepState.FAILED, SweepState.CANCELLING}),
    SweepState.IN_PROGRESS: frozenset({SweepState.PAUSED, SweepState.FINALIZING, SweepState.CANCELLING}),
    # To finalizing: the cells that were running when the sweep was paused were its last.
    SweepState.PAUSED: frozenset({SweepState.IN_PROGRESS, SweepState.FINALIZING, SweepState.CANCELLING}),
    # To in_progress: the file of a cell was found lost or damaged, a failed cell was reset by a new sweep, or a search
    # added further cells.
    SweepState.FINALIZING: frozenset({SweepState.COMPLETED, SweepState.FAILED, SweepState.IN_PROGRESS}),
    SweepState.CANCELLING: frozenset({SweepState.CANCELLED}),
    # To finalizing: the published files were found lost or damaged and are assembled again.
    SweepState.COMPLETED: frozenset({SweepState.FINALIZING}),
    SweepState.FAILED: frozenset({SweepState.FINALIZING}),
    SweepState.CANCELLED: frozenset(),
}

CELL_MOVES: dict[CellState, frozenset[CellState]] = {
    CellState.PENDING: frozenset({CellState.LEASED}),
    CellState.LEASED: frozenset({CellState.PENDING, CellState.COMPLETED, CellState.FAILED}),
    CellState.COMPLETED: frozenset({CellState.PENDING}),  # its file is lost, damaged or expired
    CellState.FAILED: frozenset({CellState.PENDING}),  # a new sweep needs it
}

SWEEP_ENDED = frozenset({SweepState.COMPLETED, SweepState.FAILED, SweepState.CANCELLED})
"""States in which a sweep has ended; its counts no longer change."""

SWEEP_ACTIVE = frozenset(SweepState) - SWEEP_ENDED
"""States in which the counts of a sweep follow the states of its cells."""

SWEEP_RUNNING = frozenset({SweepState.IN_PROGRESS, SweepState.PAUSED})
"""States in which running cells of a sweep continue."""
