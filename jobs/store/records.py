"""Values that the store returns and accepts: frozen dataclasses, independent of the database."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Generic, TypeVar

from ampsweep.domain.neurons.recording_progress import RecordingProgress
from jobs.cell import Cell
from jobs.store.transitions import CellState, SweepState

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class RequestCounts:
    """Numbers of cells of a sweep. `reused` cells were completed already when the sweep was submitted."""

    total: int
    completed: int
    failed: int
    reused: int


@dataclass(frozen=True, kw_only=True)
class SweepFiles:
    """The SHA-256 of a sweep's published files, and the epoch of the lease under which they were written.

    The epoch is part of the file names. It is None for files of versions that did not lease sweeps.
    """

    samples: str
    summary: str
    epoch: int | None = None


@dataclass(frozen=True, kw_only=True)
class SweepRecord:
    """State of a sweep. Times are in seconds since 1970.

    Attributes:
        owner: Who submitted the sweep; empty if the server has no authentication.
        samples: Samples of the completed cells, and those that running cells have reported.
        failed_samples: Samples of completed cells that have an error instead of an answer.
        files: The published files, from the end of the sweep until `expired_at`.
        warnings: Warnings of the plan (`jobs.planning.planner.Plan`).
        tags: What users sort their sweeps by, in alphabetical order.
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
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class CellRecord:
    """State of a cell.

    Attributes:
        file: Name of the published Parquet file in the folder of cells.
        rows: Number of rows of the file.
        sha256: SHA-256 of the file.
        samples: Available samples: all of a completed cell, those reported so far of a running one.
        failed_samples: Samples of a completed cell that have an error instead of an answer.
        sample_error: The first of these errors.
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
        """The id of the cell."""
        return self.cell.id


@dataclass(frozen=True, kw_only=True)
class Lease:
    """The right to compute a cell until `expires_at`. Writes carry its epoch; older epochs are rejected.

    Attributes:
        exclusive: Whether no other cell may run on the engine meanwhile, because an engine died with this cell and
            others in flight and the cause must be identified.
        tries: Number of this lease, counting those that failed or expired before it.
        sweep_ids: The active sweeps that need the cell, oldest first.
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
    """The right to finalize a sweep until `expires_at`. Epochs work as with the lease of a cell."""

    sweep_id: str
    owner: str
    epoch: int
    expires_at: float


@dataclass(frozen=True, kw_only=True)
class CellFile:
    """The published file of a cell: its name without a folder, number of rows and SHA-256.

    `failed_samples` is the number of rows with an error, `sample_error` the first of these errors.
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
    """How the work under a lease ended. `jobs.store.cell_state` defines the effect on the cell."""

    COMPLETED = "completed"
    RELEASED = "returned"  # not counted: no engine was ready, no sweep needs the cell any more, or the disk is full
    SUSPECT = "suspected"  # the engine died with several cells in flight
    FAILED = "failed"  # because of the cell itself; another attempt may succeed
    REJECTED = "refused"  # because of the cell itself; another attempt would fail too


@dataclass(frozen=True, kw_only=True)
class CellReport:
    """The outcome of a lease. `file` is set if the cell is completed, `error` if there is a reason to report."""

    lease: Lease
    outcome: CellOutcome
    file: CellFile | None = None
    error: str | None = None


@dataclass(frozen=True, kw_only=True)
class Heartbeat:
    """Reports that a leased cell is still being computed, and how many of its samples are done.

    `recording` is how far the recording is from which the cell's neuron set is being identified, if it waits for that.
    """

    lease: Lease
    samples: int = 0
    recording: RecordingProgress | None = None


@dataclass(frozen=True, kw_only=True)
class Event:
    """An event of a sweep. The ids of a sweep's events start at 1 and increase by one."""

    id: int
    sweep_id: str
    type: str
    data: Mapping[str, Any]
    created_at: float


@dataclass(frozen=True, kw_only=True)
class Page(Generic[T]):
    """A page of a list, and whether more items follow."""

    data: tuple[T, ...]
    has_more: bool


@dataclass(frozen=True, kw_only=True)
class CellFileState:
    """The current file of a cell, and the epoch under which another one may be in the course of publication."""

    file: str | None
    epoch: int
    leased: bool


@dataclass(frozen=True, kw_only=True)
class SweepFilesState:
    """The current files of a sweep, and the epoch under which others may be in the course of publication."""

    files: SweepFiles | None
    epoch: int
    leased: bool


@dataclass(frozen=True, kw_only=True)
class StoreStats:
    """Statistics of the store. Times are in seconds since 1970.

    Attributes:
        sweeps: Number of sweeps by state.
        cells: Number of cells by state.
        leases: Number of leased cells by owner.
        cells_asked: Sum of the numbers of cells of all sweeps.
        cells_reused: How many of them were completed already when their sweep was submitted.
        oldest_waiting: Creation time of the oldest sweep in progress that has pending cells; None if there is none.
        longest_unserved: Earliest time at which a sweep with pending cells last got a lease (or was created, if it has
            had none); None if there is none.
    """

    sweeps: Mapping[str, int]
    cells: Mapping[str, int]
    leases: Mapping[str, int]
    cells_asked: int
    cells_reused: int
    oldest_waiting: float | None
    longest_unserved: float | None
