"""Helpers that call a store and read back its state."""

from __future__ import annotations

from typing import Any

from jobs.store.protocol import Store
from jobs.store.records import CellFile, Lease, RequestCounts, SweepFiles, SweepLease, SweepRecord
from jobs.store.transitions import CellState
from tests.jobs.cluster import a_cell, completed

HALF_FAILED = CellFile(name="half.1.parquet", rows=2, sha256="h", failed_samples=1, sample_error="too long")
ALL_FAILED = CellFile(name="none.1.parquet", rows=2, sha256="n", failed_samples=2, sample_error="no chat template")
FILE = CellFile(name="cell.1.parquet", rows=2, sha256="f" * 64)
FILES = SweepFiles(samples="1", summary="2")


def send(store: Store, count: int = 2, *, start: int = 0, **more: Any) -> SweepRecord:
    cells = [a_cell(number) for number in range(start, start + count)]
    return store.create_sweep(name="n", spec={"a": 1}, cells=cells, **more)


def lease(store: Store, limit: int = 1, *, owner: str = "w", ttl: float = 30.0) -> list[Lease]:
    return store.lease_cells(owner, models=["tiny"], limit=limit, ttl=ttl)


def complete(store: Store, count: int = 1, file: CellFile = FILE) -> None:
    assert store.report([completed(held, file) for held in lease(store, count)]) == []


def leased(store: Store, sweep_id: str) -> SweepLease:
    """Lease a sweep that is finalizing; of one that is not, return a lease that nobody gave."""
    lease = store.lease_sweep(sweep_id, "w", ttl=30.0)
    return lease or SweepLease(sweep_id=sweep_id, owner="w", epoch=1, expires_at=0.0)


def finish(store: Store, sweep_id: str, *, files: SweepFiles | None = None, error: str | None = None) -> SweepRecord:
    return store.finish_sweep(leased(store, sweep_id), files=files, error=error)


def counts(store: Store, sweep_id: str) -> tuple[int, int, int, int]:
    request_counts: RequestCounts = store.get_sweep(sweep_id).request_counts
    return request_counts.total, request_counts.completed, request_counts.failed, request_counts.reused


def kinds(store: Store, sweep_id: str) -> list[str]:
    return [event.type for event in store.events(sweep_id)]


def states(store: Store, sweep_id: str) -> list[CellState]:
    return [record.state for record in store.list_cells(sweep_id).data]
