"""The store in memory: what the SQL store does, without a disk. For tests, and as its oracle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from threading import RLock
from typing import Any

from ampsweep.canonical import canonical_json
from ampsweep.errors import InvalidRequest, NotFound, StaleLease
from jobs.cell import Cell
from jobs.clock import Clock
from jobs.ids import Ids
from jobs.store.ledger import ACTIVE, Ledger
from jobs.store.protocol import MAX_ATTEMPTS
from jobs.store.records import CellFile, CellRecord, Event, Lease, Page, SweepRecord
from jobs.store.states import CELL_MOVES, CellState, SweepState


@dataclass(kw_only=True)
class _Sweep:
    name: str
    spec: Mapping[str, Any]
    key: str | None
    created_at: float
    cell_ids: tuple[str, ...]
    ledger: Ledger  # its `news` are all events there ever were

    @property
    def record(self) -> SweepRecord:
        books = self.ledger
        return SweepRecord(
            id=books.sweep_id,
            name=self.name,
            state=books.state,
            spec=self.spec,
            request_counts=books.counts,
            created_at=self.created_at,
            ended_at=books.ended_at,
            error=books.error,
        )


@dataclass(kw_only=True)
class _Cell:
    cell: Cell
    state: CellState = CellState.PENDING
    attempts: int = 0
    epoch: int = 0
    owner: str | None = None
    expires_at: float = 0.0
    error: str | None = None
    file: CellFile | None = None
    sweeps: list[_Sweep] = field(default_factory=list)

    @property
    def record(self) -> CellRecord:
        file = self.file
        return CellRecord(
            cell=self.cell,
            state=self.state,
            attempts=self.attempts,
            error=self.error,
            file=None if file is None else file.name,
            rows=None if file is None else file.rows,
            sha256=None if file is None else file.sha256,
        )


class MemoryStore:
    """Implements `jobs.store.protocol.Store`; gone with the process."""

    def __init__(self, clock: Clock, ids: Ids) -> None:
        self._clock = clock
        self._ids = ids
        self._sweeps: dict[str, _Sweep] = {}
        self._cells: dict[str, _Cell] = {}
        self._lock = RLock()

    def close(self) -> None:
        """See the protocol."""

    # --- sweeps

    def create_sweep(
        self, *, name: str, spec: Mapping[str, Any], cells: Sequence[Cell], idempotency_key: str | None = None
    ) -> SweepRecord:
        """See the protocol."""
        with self._lock:
            for earlier in self._sweeps.values() if idempotency_key is not None else ():
                if earlier.key == idempotency_key:
                    if canonical_json(earlier.spec) != canonical_json(spec):
                        message = "this key was used with another spec; choose a new key for a new sweep"
                        raise InvalidRequest(message, param="Idempotency-Key")
                    return earlier.record
            own = [self._wanted(cell) for cell in cells]
            reused = sum(entry.state is CellState.COMPLETED for entry in own)
            now = self._clock.now()
            ledger = Ledger(
                sweep_id=self._ids.new("sweep"),
                state=SweepState.IN_PROGRESS,
                total=len(own),
                completed=reused,
                failed=0,
                reused=reused,
            )
            ledger.say("sweep.created", now)
            ids = tuple(cell.id for cell in cells)
            sweep = _Sweep(name=name, spec=spec, key=idempotency_key, created_at=now, cell_ids=ids, ledger=ledger)
            self._sweeps[ledger.sweep_id] = sweep
            for entry in own:
                entry.sweeps.append(sweep)
            self._settle(sweep, now)
            return sweep.record

    def _wanted(self, cell: Cell) -> _Cell:
        entry = self._cells.setdefault(cell.id, _Cell(cell=cell))
        if entry.state is CellState.FAILED:
            entry.attempts, entry.error = 0, None
            self._move(entry, CellState.PENDING, "cell.reset")
        if entry.state is CellState.PENDING:
            entry.cell = cell
        return entry

    def get_sweep(self, sweep_id: str) -> SweepRecord:
        """See the protocol."""
        with self._lock:
            return self._sweep(sweep_id).record

    def list_sweeps(self, *, after: str | None = None, limit: int = 20) -> Page[SweepRecord]:
        """See the protocol."""
        with self._lock:
            ids = list(reversed(self._sweeps))
            start = 0 if after is None else ids.index(self._sweep(after).ledger.sweep_id) + 1
            data = tuple(self._sweeps[sweep_id].record for sweep_id in ids[start : start + limit])
            return Page(data=data, has_more=len(ids) > start + limit)

    def cancel_sweep(self, sweep_id: str) -> SweepRecord:
        """See the protocol."""
        with self._lock:
            sweep, now = self._sweep(sweep_id), self._clock.now()
            sweep.ledger.cancel(now)
            self._settle(sweep, now)
            return sweep.record

    def finalizing(self) -> list[str]:
        """See the protocol."""
        with self._lock:
            found = self._sweeps.items()
            return [sweep_id for sweep_id, sweep in found if sweep.ledger.state is SweepState.FINALIZING]

    def finish_sweep(self, sweep_id: str, *, error: str | None = None) -> SweepRecord:
        """See the protocol."""
        with self._lock:
            sweep = self._sweep(sweep_id)
            sweep.ledger.finish(error, self._clock.now())
            return sweep.record

    def events(self, sweep_id: str, *, after: int = 0, limit: int = 1000) -> list[Event]:
        """See the protocol."""
        with self._lock:
            return self._sweep(sweep_id).ledger.news[after : after + limit]

    # --- cells

    def list_cells(self, sweep_id: str, *, after: str | None = None, limit: int = 100) -> Page[CellRecord]:
        """See the protocol."""
        with self._lock:
            ids = self._sweep(sweep_id).cell_ids
            if after is not None and after not in ids:
                raise NotFound(f"sweep {sweep_id} has no cell {after}", param="after")
            start = 0 if after is None else ids.index(after) + 1
            data = tuple(self._cells[cell_id].record for cell_id in ids[start : start + limit])
            return Page(data=data, has_more=len(ids) > start + limit)

    def lease_cells(self, owner: str, *, models: Sequence[str], limit: int, ttl: float) -> list[Lease]:
        """See the protocol."""
        with self._lock:
            going = [sweep for sweep in self._sweeps.values() if sweep.ledger.state is SweepState.IN_PROGRESS]
            entries = [self._cells[cell_id] for sweep in going for cell_id in sweep.cell_ids]
            leases: list[Lease] = []
            for entry in entries:
                if len(leases) == limit:
                    break
                if entry.state is CellState.PENDING and entry.cell.model in models:
                    entry.attempts += 1
                    entry.epoch += 1
                    entry.owner, entry.expires_at = owner, self._clock.now() + ttl
                    self._move(entry, CellState.LEASED, None)
                    leases.append(_lease(entry))
            return leases

    def heartbeat(self, lease: Lease, *, ttl: float) -> Lease:
        """See the protocol."""
        with self._lock:
            entry = self._held(lease)
            if any(sweep.ledger.state is SweepState.IN_PROGRESS for sweep in entry.sweeps):
                entry.expires_at = self._clock.now() + ttl
                return _lease(entry)
            entry.attempts -= 1
            self._move(entry, CellState.PENDING, None)
        raise StaleLease(f"no sweep wants cell {lease.cell.id} any more")

    def complete_cell(self, lease: Lease, file: CellFile) -> None:
        """See the protocol."""
        with self._lock:
            entry = self._held(lease)
            entry.file, entry.error = file, None
            self._move(entry, CellState.COMPLETED, "cell.completed")

    def fail_cell(self, lease: Lease, error: str, *, retry: bool) -> None:
        """See the protocol."""
        with self._lock:
            self._give_back(self._held(lease), error, retry=retry)

    def release(self, lease: Lease) -> None:
        """See the protocol."""
        with self._lock:
            entry = self._held(lease)
            entry.attempts -= 1
            self._move(entry, CellState.PENDING, None)

    def expire_leases(self) -> int:
        """See the protocol."""
        with self._lock:
            now = self._clock.now()
            late = [cell for cell in self._cells.values() if cell.state is CellState.LEASED and cell.expires_at <= now]
            for entry in late:
                self._give_back(entry, f"the lease of {entry.owner} ran out", retry=True)
            return len(late)

    def reset_cell(self, cell_id: str, reason: str) -> None:
        """See the protocol."""
        with self._lock:
            entry = self._cell(cell_id)
            if entry.state is CellState.COMPLETED:
                entry.file, entry.attempts, entry.error = None, 0, reason
                self._move(entry, CellState.PENDING, "cell.reset", error=reason)

    # --- how books are kept

    def _give_back(self, entry: _Cell, error: str, *, retry: bool) -> None:
        again = retry and entry.attempts < MAX_ATTEMPTS
        target, kind = (CellState.PENDING, "cell.retrying") if again else (CellState.FAILED, "cell.failed")
        entry.error = error
        self._move(entry, target, kind, error=error)

    def _move(self, entry: _Cell, target: CellState, kind: str | None, **data: Any) -> None:
        before = entry.state
        assert target in CELL_MOVES[before], f"cell {entry.cell.id} cannot go from {before} to {target}"
        entry.state = target
        now = self._clock.now()
        for sweep in entry.sweeps:
            if sweep.ledger.state in ACTIVE:
                sweep.ledger.cell_moved(before, target, kind, now, cell_id=entry.cell.id, **data)
                self._settle(sweep, now)

    def _settle(self, sweep: _Sweep, now: float) -> None:
        sweep.ledger.settle(
            now, lambda: any(self._cells[cell_id].state is CellState.LEASED for cell_id in sweep.cell_ids)
        )

    def _sweep(self, sweep_id: str) -> _Sweep:
        if sweep_id not in self._sweeps:
            raise NotFound(f"no sweep {sweep_id}")
        return self._sweeps[sweep_id]

    def _cell(self, cell_id: str) -> _Cell:
        if cell_id not in self._cells:
            raise NotFound(f"no cell {cell_id}")
        return self._cells[cell_id]

    def _held(self, lease: Lease) -> _Cell:
        entry = self._cell(lease.cell.id)
        if entry.state is not CellState.LEASED or entry.epoch != lease.epoch:
            raise StaleLease(f"the lease of {lease.owner} on cell {lease.cell.id} has passed (epoch {lease.epoch})")
        return entry


def _lease(entry: _Cell) -> Lease:
    assert entry.owner is not None
    return Lease(cell=entry.cell, owner=entry.owner, epoch=entry.epoch, expires_at=entry.expires_at)
