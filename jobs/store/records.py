"""What the store hands out: plain frozen values, never rows of a session."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from jobs.cell import Cell
from jobs.store.states import CellState, SweepState

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class RequestCounts:
    """Cells of a sweep: all, those done, those given up; `reused` were already done when the sweep was sent."""

    total: int
    completed: int
    failed: int
    reused: int


@dataclass(frozen=True, kw_only=True)
class SweepRecord:
    """A sweep as it stands. Times are seconds since the epoch."""

    id: str
    name: str
    state: SweepState
    spec: Mapping[str, Any]
    request_counts: RequestCounts
    created_at: float
    ended_at: float | None
    error: str | None


@dataclass(frozen=True, kw_only=True)
class CellRecord:
    """A cell as it stands. `file` is the committed Parquet's name in the cells folder, with its row count and hash."""

    cell: Cell
    state: CellState
    attempts: int
    error: str | None
    file: str | None
    rows: int | None
    sha256: str | None

    @property
    def id(self) -> str:
        """The cell's id."""
        return self.cell.id


@dataclass(frozen=True, kw_only=True)
class Lease:
    """The right to compute a cell until `expires_at`. Every write under it names its epoch; an old one is refused."""

    cell: Cell
    owner: str
    epoch: int
    expires_at: float


@dataclass(frozen=True, kw_only=True)
class CellFile:
    """A published cell: its file's name (no folder), rows and SHA-256."""

    name: str
    rows: int
    sha256: str


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
