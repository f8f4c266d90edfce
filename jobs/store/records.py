"""What the store hands out and takes in: plain frozen values, never rows of a session."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Generic, TypeVar

from jobs.cell import Cell
from jobs.store.transitions import CellState, SweepState

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class RequestCounts:
    """Cells of a sweep: all, those done, those given up; `reused` were already done when the sweep was sent."""

    total: int
    completed: int
    failed: int
    reused: int


@dataclass(frozen=True, kw_only=True)
class SweepFiles:
    """The SHA-256 of a sweep's published files, and the epoch of the lease under which they were written.

    The epoch is part of the files' names; it is None for files that were written before sweeps were leased.
    """

    samples: str
    summary: str
    epoch: int | None = None


@dataclass(frozen=True, kw_only=True)
class SweepRecord:
    """A sweep as it stands. Times are seconds since the epoch.

    `samples` counts those of its completed cells and, as far as they are known, of its running ones; `failed_samples`
    counts those of completed cells that have an error instead of an answer. `owner` is who
    sent it, empty where nobody is told from anybody else. `files` are there once it has ended and until `expired_at`.
    `warnings` are the plan's (`jobs.planning.planner.Plan`).
    """

    id: str
    name: str
    state: SweepState
    spec: Mapping[str, Any]
    request_counts: RequestCounts
    created_at: float
    ended_at: float | None
    error: str | None
    owner: str = ""
    priority: int = 0
    samples: int = 0
    failed_samples: int = 0
    files: SweepFiles | None = None
    expired_at: float | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class CellRecord:
    """A cell as it stands. `file` is the committed Parquet's name in the cells folder, with its row count and hash.

    `samples` is how many of its samples are there: all of a completed cell, those reported so far of a running one.
    `failed_samples` counts the failed ones of a completed cell, and `sample_error` is the reason of the first of them.
    """

    cell: Cell
    state: CellState
    attempts: int
    error: str | None
    file: str | None
    rows: int | None
    sha256: str | None
    samples: int = 0
    failed_samples: int = 0
    sample_error: str | None = None

    @property
    def id(self) -> str:
        """The cell's id."""
        return self.cell.id


@dataclass(frozen=True, kw_only=True)
class Lease:
    """The right to compute a cell until `expires_at`. Every write under it names its epoch; an old one is refused.

    A cell that is `exclusive` is to run with no other cell on its engine: an engine died with it and others in flight,
    and whose fault that was is found out now. `tries` counts this lease and those that failed or ran out before it;
    `sweep_ids` are the active sweeps that need the cell, the oldest first.
    """

    cell: Cell
    owner: str
    epoch: int
    expires_at: float
    exclusive: bool = False
    tries: int = 1
    sweep_ids: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class SweepLease:
    """The right to put a finalizing sweep's results together until `expires_at`; works as a cell's lease does."""

    sweep_id: str
    owner: str
    epoch: int
    expires_at: float


@dataclass(frozen=True, kw_only=True)
class CellFile:
    """A published cell: its file's name (no folder), rows and SHA-256.

    `failed_samples` counts the rows with an error, and `sample_error` is the first of these errors.
    """

    name: str
    rows: int
    sha256: str
    failed_samples: int = 0
    sample_error: str | None = None

    @property
    def has_no_answer(self) -> bool:
        """Whether every sample failed."""
        return 0 < self.rows == self.failed_samples


class CellOutcome(StrEnum):
    """How the work under a lease ended; what it makes of the cell stands in `jobs.store.cell_state`."""

    COMPLETED = "completed"
    RELEASED = "returned"  # untried: no engine was ready, nobody wants it any more, the disk is full
    SUSPECT = "suspected"  # its engine died, with other cells in flight
    FAILED = "failed"  # by its own fault, which may pass
    REJECTED = "refused"  # by its own fault, and would again


@dataclass(frozen=True, kw_only=True)
class CellReport:
    """What became of a leased cell: `file` comes with COMPLETED, `error` with whatever has a reason."""

    lease: Lease
    outcome: CellOutcome
    file: CellFile | None = None
    error: str | None = None


@dataclass(frozen=True, kw_only=True)
class Heartbeat:
    """A sign of life of a leased cell: how many of its samples are done."""

    lease: Lease
    samples: int = 0


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened to a sweep; `id` grows by one per sweep, without gaps, from 1."""

    id: int
    sweep_id: str
    type: str
    data: Mapping[str, Any]
    created_at: float


@dataclass(frozen=True, kw_only=True)
class Page(Generic[T]):
    """A slice of a list in its order, and whether more follows."""

    data: tuple[T, ...]
    has_more: bool


@dataclass(frozen=True, kw_only=True)
class CellFileState:
    """What is known of a cell's files: the one that counts, and the epoch under which another may be on its way."""

    file: str | None
    epoch: int
    leased: bool


@dataclass(frozen=True, kw_only=True)
class SweepFilesState:
    """What is known of a sweep's files: those that count, and the epoch under which others may be on their way."""

    files: SweepFiles | None
    epoch: int
    leased: bool


@dataclass(frozen=True, kw_only=True)
class StoreStats:
    """How much there is of everything: sweeps and cells by state, leases by who has them.

    `cells_asked` are those of all sweeps together, `cells_reused` those among them that were done when they were asked
    for. Of the sweeps in progress whose cells wait to be leased, `oldest_waiting` is when the first was sent, and
    `longest_unserved` the earliest time since which one has had no cell leased (or been there); None where none waits.
    """

    sweeps: Mapping[str, int]
    cells: Mapping[str, int]
    leases: Mapping[str, int]
    cells_asked: int
    cells_reused: int
    oldest_waiting: float | None
    longest_unserved: float | None
