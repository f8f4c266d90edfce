"""State of the evaluations of sweeps, as the store returns and accepts it. Independent of the database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class EvaluationState(StrEnum):
    """State of an evaluation."""

    QUEUED = "queued"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


UNFINISHED = frozenset({EvaluationState.QUEUED, EvaluationState.IN_PROGRESS})
"""States from which an evaluation continues by itself."""
REPEATABLE = frozenset({EvaluationState.FAILED, EvaluationState.CANCELLED})
"""States in which the same request starts an evaluation again."""


@dataclass(frozen=True, kw_only=True)
class EvaluationRecord:
    """State of an evaluation. Times are in seconds since 1970.

    Attributes:
        samples: SHA-256 of the samples that are evaluated.
        request: The JSON form of the request.
        state: Where it is in its life cycle. An evaluation whose lease has expired is queued.
        epoch: Number of leases so far; that of the last one names the file of scores.
        started_at: When the current or last lease began; None if there has been none.
        groups: The values of each group, once it is completed.
        left_out: Rows that lack a value that is needed.
        error: Why it failed, or why a queued one was last interrupted.
    """

    id: str
    sweep_id: str
    samples: str
    request: Mapping[str, Any]
    state: EvaluationState
    epoch: int
    created_at: float
    started_at: float | None = None
    ended_at: float | None = None
    groups: Sequence[Mapping[str, Any]] | None = None
    left_out: int | None = None
    error: str | None = None


@dataclass(frozen=True, kw_only=True)
class EvaluationLease:
    """The right to compute an evaluation until the lease expires. Epochs work as with the lease of a cell.

    Attributes:
        evaluation: The evaluation, as it was when it was leased.
        owner: The holder of the lease.
    """

    evaluation: EvaluationRecord
    owner: str

    @property
    def key(self) -> tuple[str, int]:
        """Id and epoch, which identify the lease."""
        return self.evaluation.id, self.evaluation.epoch
