"""The store in memory: what the SQL store does, without a disk. For tests, and as its oracle."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from threading import RLock
from typing import Any

from ampsweep.canonical import canonical_json
from ampsweep.errors import Conflict, InvalidRequest, NotFound
from jobs.cell import Cell
from jobs.clock import Clock
from jobs.ids import Ids
from jobs.store.cell_books import CellBooks, News
from jobs.store.ledger import Ledger
from jobs.store.records import (
    Beat,
    CellFileState,
    CellRecord,
    Census,
    Event,
    Lease,
    Page,
    Report,
    SweepFiles,
    SweepRecord,
)
from jobs.store.states import SWEEP_ACTIVE, SWEEP_WANTS, CellState, SweepState
from jobs.store.turns import Queued, share_out


@dataclass(kw_only=True)
class _Sweep:
    place: int
    name: str
    spec: Mapping[str, Any]
    key: str | None
    owner: str
    priority: int
    warnings: tuple[str, ...]
    created_at: float
    cell_ids: tuple[str, ...]
    ledger: Ledger  # its `news` are all events there ever were
    model: str
    expired_at: float | None = None

    def waits(self, models: Sequence[str]) -> bool:
        return self.ledger.state is SweepState.IN_PROGRESS and self.model in models and self.ledger.pending > 0

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
            owner=self.owner,
            priority=self.priority,
            samples=books.samples,
            files=books.files,
            expired_at=self.expired_at,
            warnings=self.warnings,
        )


@dataclass(kw_only=True)
class _Cell:
    books: CellBooks
    sweeps: list[_Sweep] = field(default_factory=list)

    @property
    def wanted_by(self) -> tuple[str, ...]:
        return tuple(sweep.ledger.sweep_id for sweep in self.sweeps if sweep.ledger.state in SWEEP_ACTIVE)


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
        self,
        *,
        name: str,
        spec: Mapping[str, Any],
        cells: Sequence[Cell],
        idempotency_key: str | None = None,
        owner: str = "",
        priority: int = 0,
        warnings: Sequence[str] = (),
    ) -> SweepRecord:
        """See the protocol."""
        with self._write() as now:
            for earlier in self._sweeps.values() if idempotency_key is not None else ():
                if earlier.key == idempotency_key:
                    if canonical_json(earlier.spec) != canonical_json(spec):
                        message = "this key was used with another spec; choose a new key for a new sweep"
                        raise InvalidRequest(message, param="Idempotency-Key")
                    return earlier.record
            own = [self._wanted(cell, now) for cell in cells]
            reused = sum(entry.books.state is CellState.COMPLETED for entry in own)
            ledger = Ledger(
                sweep_id=self._ids.new("sweep"), state=SweepState.IN_PROGRESS, total=len(own), reused=reused
            )
            ledger.count(entry.books.standing for entry in own)
            ledger.say("sweep.created", now)
            sweep = _Sweep(
                place=len(self._sweeps) + 1,
                name=name,
                spec=spec,
                key=idempotency_key,
                owner=owner,
                priority=priority,
                warnings=tuple(warnings),
                created_at=now,
                cell_ids=tuple(cell.id for cell in cells),
                ledger=ledger,
                model=cells[0].model,
            )
            self._sweeps[ledger.sweep_id] = sweep
            for entry in own:
                entry.sweeps.append(sweep)
        return self.get_sweep(ledger.sweep_id)

    def _wanted(self, cell: Cell, now: float) -> _Cell:
        entry = self._cells.setdefault(cell.id, _Cell(books=CellBooks(cell=cell)))
        if entry.books.state is CellState.FAILED:
            self._move(entry, now, partial(entry.books.reset, None))
        if entry.books.state is CellState.PENDING:
            entry.books.cell = cell
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
        return self._ask(sweep_id, Ledger.cancel)

    def pause_sweep(self, sweep_id: str) -> SweepRecord:
        """See the protocol."""
        return self._ask(sweep_id, Ledger.pause)

    def resume_sweep(self, sweep_id: str) -> SweepRecord:
        """See the protocol."""
        return self._ask(sweep_id, Ledger.resume)

    def _ask(self, sweep_id: str, ask: Callable[[Ledger, float], None]) -> SweepRecord:
        with self._write() as now:
            ask(self._sweep(sweep_id).ledger, now)
        return self.get_sweep(sweep_id)

    def finalizing(self) -> list[str]:
        """See the protocol."""
        with self._lock:
            found = self._sweeps.items()
            return [sweep_id for sweep_id, sweep in found if sweep.ledger.state is SweepState.FINALIZING]

    def extend_sweep(self, sweep_id: str, cells: Sequence[Cell]) -> SweepRecord:
        """See the protocol."""
        with self._write() as now:
            sweep = self._sweep(sweep_id)
            sweep.ledger.extend((self._wanted(cell, now).books.standing for cell in cells), now)
            sweep.cell_ids += tuple(cell.id for cell in cells)
            for cell in cells:
                self._cells[cell.id].sweeps.append(sweep)
        return self.get_sweep(sweep_id)

    def finish_sweep(self, sweep_id: str, *, files: SweepFiles | None = None, error: str | None = None) -> SweepRecord:
        """See the protocol."""
        with self._write() as now:
            self._sweep(sweep_id).ledger.finish(files, error, now)
        return self.get_sweep(sweep_id)

    def reopen_sweep(self, sweep_id: str, reason: str) -> SweepRecord:
        """See the protocol."""
        with self._write() as now:
            sweep = self._sweep(sweep_id)
            if sweep.expired_at is not None:
                raise Conflict(f"the results of sweep {sweep_id} have expired")
            if sweep.ledger.state not in SWEEP_ACTIVE:
                cells = [self._cells[cell_id].books.standing for cell_id in sweep.cell_ids]
                sweep.ledger.reopen(reason, cells, now)
        return self.get_sweep(sweep_id)

    def expire_results(self, before: float) -> Sequence[str]:
        """See the protocol."""
        with self._write() as now:
            gone: list[_Sweep] = []
            for sweep in self._sweeps.values():
                ended = sweep.ledger.ended_at
                if ended is not None and ended < before and sweep.expired_at is None:
                    sweep.expired_at, sweep.ledger.files = now, None
                    gone.append(sweep)
            for cell_id in sorted({cell_id for sweep in gone for cell_id in sweep.cell_ids}):
                entry = self._cells[cell_id]
                if entry.books.file is not None and all(sweep.expired_at is not None for sweep in entry.sweeps):
                    entry.books.reset(None)
            return [sweep.ledger.sweep_id for sweep in gone]

    def has_expired(self, sweep_id: str) -> bool:
        """See the protocol."""
        with self._lock:
            return sweep_id in self._sweeps and self._sweeps[sweep_id].expired_at is not None

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
            data = tuple(self._cells[cell_id].books.record for cell_id in ids[start : start + limit])
            return Page(data=data, has_more=len(ids) > start + limit)

    def cell_files(self, cell_ids: Sequence[str]) -> Mapping[str, CellFileState]:
        """See the protocol."""
        with self._lock:
            known = [self._cells[cell_id].books for cell_id in cell_ids if cell_id in self._cells]
            return {
                books.cell.id: CellFileState(
                    file=books.record.file, epoch=books.epoch, leased=books.state is CellState.LEASED
                )
                for books in known
            }

    def lease_cells(self, owner: str, *, models: Sequence[str], limit: int, ttl: float, alone: int = 0) -> list[Lease]:
        """See the protocol."""
        with self._write() as now:
            chosen = self._suspects(models, min(alone, limit))
            queued = [
                Queued(
                    place=sweep.place,
                    owner=sweep.owner,
                    priority=sweep.priority,
                    running=sweep.ledger.leased,
                    served_at=sweep.ledger.served_at,
                    waits=sweep.waits(models),
                )
                for sweep in self._sweeps.values()
                if sweep.ledger.state in SWEEP_ACTIVE
            ]
            sweeps = list(self._sweeps.values())

            def pending(place: int, room: int) -> list[str]:
                ids = sweeps[place - 1].cell_ids
                return [cell_id for cell_id in ids if self._free(cell_id, models, suspect=False)][:room]

            shared = share_out(queued, limit - len(chosen), pending)
            for _, place in shared:
                sweeps[place - 1].ledger.served_at = now
            entries = [self._cells[cell_id] for cell_id in [*chosen, *(cell_id for cell_id, _ in shared)]]
            for entry in entries:
                self._move(entry, now, partial(entry.books.lease, owner, now + ttl))
            return [replace(entry.books.held, sweep_ids=entry.wanted_by) for entry in entries]

    def _suspects(self, models: Sequence[str], limit: int) -> list[str]:
        def wanted(entry: _Cell) -> bool:
            return any(sweep.ledger.state is SweepState.IN_PROGRESS for sweep in entry.sweeps)

        free = [cell_id for cell_id in sorted(self._cells) if self._free(cell_id, models, suspect=True)]
        return [cell_id for cell_id in free if wanted(self._cells[cell_id])][:limit]

    def _free(self, cell_id: str, models: Sequence[str], *, suspect: bool) -> bool:
        books = self._cells[cell_id].books
        return books.state is CellState.PENDING and books.suspect is suspect and books.cell.model in models

    def heartbeat(self, beats: Sequence[Beat], *, ttl: float) -> list[Lease]:
        """See the protocol."""
        with self._write() as now:
            lost: list[Lease] = []
            for beat in beats:
                entry = self._cells[beat.lease.cell.id]
                if not entry.books.held_under(beat.lease):
                    lost.append(beat.lease)
                elif any(sweep.ledger.state in SWEEP_WANTS for sweep in entry.sweeps):
                    self._move(entry, now, partial(entry.books.beat, beat.samples, now + ttl))
                else:
                    lost.append(beat.lease)
                    self._move(entry, now, entry.books.abandon)
            return lost

    def report(self, reports: Sequence[Report]) -> list[Lease]:
        """See the protocol."""
        with self._write() as now:
            late: list[Lease] = []
            for report in reports:
                entry = self._cells[report.lease.cell.id]
                if entry.books.held_under(report.lease):
                    self._move(entry, now, partial(entry.books.end, report))
                else:
                    late.append(report.lease)
            return late

    def expire_leases(self) -> int:
        """See the protocol."""
        with self._write() as now:
            leased = [entry for _, entry in sorted(self._cells.items()) if entry.books.state is CellState.LEASED]
            late = [entry for entry in leased if entry.books.expires_at is not None and entry.books.expires_at <= now]
            for entry in late:
                self._move(entry, now, entry.books.lapse)
            return len(late)

    def reset_cell(self, cell_id: str, reason: str) -> None:
        """See the protocol."""
        with self._write() as now:
            if cell_id not in self._cells:
                raise NotFound(f"no cell {cell_id}")
            entry = self._cells[cell_id]
            if entry.books.state is CellState.COMPLETED:
                self._move(entry, now, partial(entry.books.reset, reason))

    def census(self) -> Census:
        """See the protocol."""
        with self._lock:
            sweeps, books = list(self._sweeps.values()), [entry.books for entry in self._cells.values()]
            waiting = [sweep for sweep in sweeps if sweep.waits([sweep.model])]
            served = [max(sweep.created_at, sweep.ledger.served_at) for sweep in waiting]
            return Census(
                sweeps=Counter(sweep.ledger.state.value for sweep in sweeps),
                cells=Counter(cell.state.value for cell in books),
                leases=Counter(cell.held.owner for cell in books if cell.state is CellState.LEASED),
                cells_asked=sum(sweep.ledger.total for sweep in sweeps),
                cells_reused=sum(sweep.ledger.reused for sweep in sweeps),
                oldest_waiting=min((sweep.created_at for sweep in waiting), default=None),
                longest_unserved=min(served, default=None),
            )

    # --- how books are kept

    def _move(self, entry: _Cell, now: float, change: Callable[[], News | None]) -> None:
        """Change a cell's books, and let every sweep that needs it follow."""
        before, news = entry.books.standing, change()
        kind, data = news or (None, {})
        for sweep in entry.sweeps:
            if sweep.ledger.state in SWEEP_ACTIVE:
                sweep.ledger.cell_moved(before, entry.books.standing, kind, now, cell_id=entry.books.cell.id, **data)

    @contextmanager
    def _write(self) -> Iterator[float]:
        with self._lock:
            now = self._clock.now()
            yield now
            for sweep in self._sweeps.values():
                sweep.ledger.settle(now)

    def _sweep(self, sweep_id: str) -> _Sweep:
        if sweep_id not in self._sweeps:
            raise NotFound(f"no sweep {sweep_id}")
        return self._sweeps[sweep_id]
