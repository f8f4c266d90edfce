"""A reference implementation of the store for tests, written from the protocol alone.

It shares the records and the names of the states with the product, and none of its rules: no transition table, no
attempt accounting, no fair share. Nothing is counted as it changes; every count is taken from the cells when it is
asked for. Slow and small; the SQL store has to agree with it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import RLock
from typing import Any, TypeVar

from ampsweep.errors import Conflict, InvalidRequest, NotFound
from jobs.cell import Cell
from jobs.clock import Clock
from jobs.ids import Ids
from jobs.store.records import (
    Beat,
    CellFile,
    CellFileState,
    CellRecord,
    Census,
    Ending,
    Event,
    Lease,
    Page,
    Report,
    RequestCounts,
    SweepFiles,
    SweepFilesState,
    SweepLease,
    SweepRecord,
)
from jobs.store.states import CellState, SweepState

ATTEMPTS = 3
EXPIRIES = 10

Record = TypeVar("Record", SweepRecord, CellRecord)


@dataclass(kw_only=True, eq=False)
class _Cell:
    cell: Cell
    state: CellState = CellState.PENDING
    failures: int = 0  # attempts that failed, without the present one
    expiries: int = 0
    runs_alone: bool = False
    epoch: int = 0
    owner: str = ""
    expires_at: float = 0.0
    error: str | None = None
    file: CellFile | None = None
    progress: int = 0

    @property
    def samples(self) -> int:
        if self.state is CellState.COMPLETED:
            assert self.file is not None
            return self.file.rows
        return self.progress if self.state is CellState.LEASED else 0

    @property
    def failed_samples(self) -> int:
        return self.file.failed_samples if self.file is not None else 0

    @property
    def attempts(self) -> int:
        return self.failures + (self.state in (CellState.LEASED, CellState.COMPLETED))

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
            samples=self.samples,
            failed_samples=self.failed_samples,
            sample_error=None if file is None else file.sample_error,
        )


@dataclass(kw_only=True, eq=False)
class _Sweep:
    id: str
    name: str
    spec: Mapping[str, Any]
    key: str | None
    owner: str
    priority: int
    warnings: tuple[str, ...]
    created_at: float
    cells: list[_Cell]
    reused: int
    model: str
    state: SweepState = SweepState.IN_PROGRESS
    served_at: float = 0.0
    ended_at: float | None = None
    expired_at: float | None = None
    error: str | None = None
    files: SweepFiles | None = None
    leases: list[SweepLease] = field(default_factory=list)  # all there ever were; the last one may count
    lease_ends_at: float | None = None  # None where none counts
    events: list[Event] = field(default_factory=list)
    frozen: tuple[RequestCounts, int, int] | None = None  # counts, samples and failed samples at its end

    @property
    def ended(self) -> bool:
        return self.ended_at is not None

    @property
    def all_done(self) -> bool:
        return all(cell.state in (CellState.COMPLETED, CellState.FAILED) for cell in self.cells)

    def number(self, state: CellState) -> int:
        return sum(cell.state is state for cell in self.cells)

    def counted(self) -> tuple[RequestCounts, int, int]:
        if self.frozen is not None:
            return self.frozen
        counts = RequestCounts(
            total=len(self.cells),
            completed=self.number(CellState.COMPLETED),
            failed=self.number(CellState.FAILED),
            reused=self.reused,
        )
        samples = sum(cell.samples for cell in self.cells)
        return counts, samples, sum(cell.failed_samples for cell in self.cells)

    def record(self) -> SweepRecord:
        counts, samples, failed_samples = self.counted()
        return SweepRecord(
            id=self.id,
            name=self.name,
            state=self.state,
            spec=self.spec,
            request_counts=counts,
            created_at=self.created_at,
            ended_at=self.ended_at,
            error=self.error,
            owner=self.owner,
            priority=self.priority,
            samples=samples,
            failed_samples=failed_samples,
            files=self.files,
            expired_at=self.expired_at,
            warnings=self.warnings,
        )


class ReferenceStore:
    """Implements `jobs.store.protocol.Store`; gone with the process."""

    def __init__(self, clock: Clock, ids: Ids) -> None:
        self._clock = clock
        self._ids = ids
        self._sweeps: list[_Sweep] = []
        self._cells: dict[str, _Cell] = {}
        self._lock = RLock()

    def close(self) -> None:
        pass

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
        with self._transaction() as now:
            if idempotency_key is not None and (earlier := self.sweep_of_key(idempotency_key, spec)):
                return earlier
            own = self._wanted(cells)
            sweep = _Sweep(
                id=self._ids.new("sweep"),
                name=name,
                spec=spec,
                key=idempotency_key,
                owner=owner,
                priority=priority,
                warnings=tuple(warnings),
                created_at=now,
                cells=own,
                reused=sum(cell.state is CellState.COMPLETED for cell in own),
                model=cells[0].model,
            )
            self._sweeps.append(sweep)
            self._tell(sweep, "sweep.created")
        return sweep.record()

    def _wanted(self, cells: Sequence[Cell]) -> list[_Cell]:
        known = [self._cells.setdefault(cell.id, _Cell(cell=cell)) for cell in cells]
        for entry in known:
            unanswered = entry.file is not None and 0 < entry.file.rows == entry.file.failed_samples
            if entry.state is CellState.FAILED or unanswered:
                self._forget(entry, None)
        for entry, cell in zip(known, cells, strict=True):
            if entry.state is CellState.PENDING:
                entry.cell = cell  # the model may have another name today
        return known

    def sweep_of_key(self, idempotency_key: str, spec: Mapping[str, Any]) -> SweepRecord | None:
        with self._lock:
            for sweep in self._sweeps:
                if sweep.key == idempotency_key:
                    if sweep.spec != spec:
                        raise InvalidRequest("another spec had this key", param="Idempotency-Key")
                    return sweep.record()
        return None

    def get_sweep(self, sweep_id: str) -> SweepRecord:
        with self._lock:
            return self._sweep(sweep_id).record()

    def list_sweeps(self, *, after: str | None = None, limit: int = 20) -> Page[SweepRecord]:
        with self._lock:
            return _page([sweep.record() for sweep in reversed(self._sweeps)], after, limit)

    def cancel_sweep(self, sweep_id: str) -> SweepRecord:
        return self._steer(sweep_id, SweepState.CANCELLING, (SweepState.IN_PROGRESS, SweepState.PAUSED))

    def pause_sweep(self, sweep_id: str) -> SweepRecord:
        return self._steer(sweep_id, SweepState.PAUSED, (SweepState.IN_PROGRESS,))

    def resume_sweep(self, sweep_id: str) -> SweepRecord:
        return self._steer(sweep_id, SweepState.IN_PROGRESS, (SweepState.PAUSED,))

    def _steer(self, sweep_id: str, target: SweepState, sources: Sequence[SweepState]) -> SweepRecord:
        with self._transaction():
            sweep = self._sweep(sweep_id)
            if sweep.state in sources:
                self._enter(sweep, target)
            elif sweep.state is not target:
                raise Conflict(f"{sweep.state} to {target}")
        return self.get_sweep(sweep_id)

    def finalizing(self) -> list[str]:
        with self._lock:
            return [sweep.id for sweep in self._sweeps if self._waits_for_a_finalizer(sweep)]

    def _waits_for_a_finalizer(self, sweep: _Sweep) -> bool:
        free = sweep.lease_ends_at is None or sweep.lease_ends_at <= self._clock.now()
        return sweep.state is SweepState.FINALIZING and free

    def lease_sweep(self, sweep_id: str, owner: str, *, ttl: float) -> SweepLease | None:
        with self._transaction() as now:
            sweep = self._sweep(sweep_id)
            if not self._waits_for_a_finalizer(sweep):
                return None
            sweep.lease_ends_at = now + ttl
            epoch = len(sweep.leases) + 1
            sweep.leases.append(SweepLease(sweep_id=sweep_id, owner=owner, epoch=epoch, expires_at=now + ttl))
            return sweep.leases[-1]

    def extend_sweep_leases(self, leases: Sequence[SweepLease], *, ttl: float) -> list[SweepLease]:
        with self._transaction() as now:
            lost = [lease for lease in leases if not self._is_held(lease)]
            for lease in leases:
                if lease not in lost:
                    self._sweep(lease.sweep_id).lease_ends_at = now + ttl
            return lost

    def _is_held(self, lease: SweepLease) -> bool:
        sweep = self._sweep(lease.sweep_id)
        return sweep.lease_ends_at is not None and lease == sweep.leases[-1]

    def extend_sweep(self, lease: SweepLease, cells: Sequence[Cell]) -> SweepRecord:
        with self._transaction():
            sweep = self._leased(lease)
            further = self._wanted(cells)
            sweep.cells = [*sweep.cells, *further]
            sweep.reused += sum(cell.state is CellState.COMPLETED for cell in further)
            self._enter(sweep, SweepState.IN_PROGRESS)
        return self.get_sweep(sweep.id)

    def finish_sweep(
        self, lease: SweepLease, *, files: SweepFiles | None = None, error: str | None = None
    ) -> SweepRecord:
        with self._transaction():
            sweep = self._leased(lease)
            sweep.files, sweep.error = files, error
            self._enter(sweep, SweepState.COMPLETED if error is None else SweepState.FAILED, error=error)
        return self.get_sweep(sweep.id)

    def _leased(self, lease: SweepLease) -> _Sweep:
        if not self._is_held(lease):
            raise Conflict("only a finalizing one will do, and whoever has its lease")
        return self._sweep(lease.sweep_id)

    def reopen_sweep(self, sweep_id: str, reason: str) -> SweepRecord:
        with self._transaction():
            sweep = self._sweep(sweep_id)
            if sweep.expired_at is not None or sweep.state is SweepState.CANCELLED:
                raise Conflict(f"{sweep_id} was cancelled or has expired")
            if sweep.ended:
                sweep.files, sweep.error, sweep.frozen = None, None, None
                self._enter(sweep, SweepState.FINALIZING, reason=reason)
        return self.get_sweep(sweep_id)

    def expire_results(self, before: float) -> Sequence[str]:
        with self._transaction() as now:
            gone = [
                sweep
                for sweep in self._sweeps
                if sweep.ended_at is not None and sweep.ended_at < before and sweep.expired_at is None
            ]
            for sweep in gone:
                sweep.expired_at, sweep.files = now, None
            for sweep in gone:
                for entry in sweep.cells:
                    needed = any(entry in other.cells for other in self._sweeps if other.expired_at is None)
                    if entry.state is CellState.COMPLETED and not needed:
                        self._forget(entry, None)
            return [sweep.id for sweep in gone]

    def prune_events(self, before: float) -> int:
        with self._transaction():
            pruned = 0
            for sweep in self._sweeps:
                if sweep.ended_at is not None and sweep.ended_at < before:
                    kept = [event for event in sweep.events if not event.type.startswith("cell.")]
                    pruned += len(sweep.events) - len(kept)
                    sweep.events = kept
            return pruned

    def sweep_files(self, sweep_ids: Sequence[str]) -> Mapping[str, SweepFilesState]:
        with self._lock:
            return {
                sweep.id: SweepFilesState(
                    files=sweep.files, epoch=len(sweep.leases), leased=sweep.lease_ends_at is not None
                )
                for sweep in self._sweeps
                if sweep.id in sweep_ids
            }

    def events(self, sweep_id: str, *, after: int = 0, limit: int = 1000) -> list[Event]:
        with self._lock:
            return [event for event in self._sweep(sweep_id).events if event.id > after][:limit]

    # --- cells

    def list_cells(
        self, sweep_id: str, *, after: str | None = None, limit: int = 100, only_failures: bool = False
    ) -> Page[CellRecord]:
        with self._lock:
            found = [entry.record() for entry in self._sweep(sweep_id).cells]
            if only_failures:
                found = [cell for cell in found if cell.state is CellState.FAILED or cell.failed_samples]
            return _page(found, after, limit)

    def cell_files(self, cell_ids: Sequence[str]) -> Mapping[str, CellFileState]:
        with self._lock:
            known = {cell_id: self._cells[cell_id] for cell_id in cell_ids if cell_id in self._cells}
            return {
                cell_id: CellFileState(
                    file=entry.record().file, epoch=entry.epoch, leased=entry.state is CellState.LEASED
                )
                for cell_id, entry in known.items()
            }

    def lease_cells(self, owner: str, *, models: Sequence[str], limit: int, ttl: float, alone: int = 0) -> list[Lease]:
        with self._transaction() as now:
            wanted = [entry for sweep in self._in_progress() for entry in sweep.cells]
            free = [entry for entry in wanted if entry.state is CellState.PENDING and entry.cell.model in models]
            suspects = {entry.cell.id: entry for entry in free if entry.runs_alone}
            chosen = [suspects[cell_id] for cell_id in sorted(suspects)][: min(alone, limit)]
            turns = self._turns(models, limit - len(chosen))
            for sweep, entry in turns:
                sweep.served_at = now
                chosen.append(entry)
            return [self._lease(entry, owner, now + ttl) for entry in chosen]

    def _lease(self, entry: _Cell, owner: str, expires_at: float) -> Lease:
        entry.state, entry.owner, entry.expires_at, entry.progress = CellState.LEASED, owner, expires_at, 0
        entry.epoch += 1
        return Lease(
            cell=entry.cell,
            owner=owner,
            epoch=entry.epoch,
            expires_at=expires_at,
            alone=entry.runs_alone,
            tries=1 + entry.failures + entry.expiries,
            sweep_ids=tuple(sweep.id for sweep in self._that_follow(entry)),
        )

    def _turns(self, models: Sequence[str], limit: int) -> list[tuple[_Sweep, _Cell]]:
        """Choose cell after cell: by priority, then by the owner's and the sweep's cells in flight, then by the wait.

        What ran before this call is counted in every sweep that needs it; what is chosen now, for whose turn it was.
        """
        turns: list[tuple[_Sweep, _Cell]] = []

        def in_flight(sweeps: Iterable[_Sweep]) -> int:
            own = list(sweeps)
            now = sum(sweep in own for sweep, _ in turns)
            return sum(sweep.number(CellState.LEASED) for sweep in own) + now

        def served(sweeps: Iterable[_Sweep]) -> tuple[int, float]:
            own = list(sweeps)
            now = [at for at, (sweep, _) in enumerate(turns, start=1) if sweep in own]
            return max(now, default=0), max(sweep.served_at for sweep in own)

        while len(turns) < limit:
            taken = [entry for _, entry in turns]
            next_cells: dict[str, _Cell] = {}
            for sweep in self._in_progress():
                for entry in sweep.cells if sweep.model in models else ():
                    free = entry.state is CellState.PENDING and not entry.runs_alone and entry.cell.model in models
                    if free and entry not in taken:
                        next_cells.setdefault(sweep.id, entry)
            waiting = [sweep for sweep in self._sweeps if sweep.id in next_cells]
            if not waiting:
                break
            first = [sweep for sweep in waiting if sweep.priority == max(other.priority for other in waiting)]
            best: dict[str, _Sweep] = {}  # of each owner the sweep that is next
            for sweep in sorted(first, key=lambda sweep: (in_flight([sweep]), served([sweep]))):
                best.setdefault(sweep.owner, sweep)

            def turn(sweep: _Sweep) -> tuple[object, ...]:
                owners = [other for other in self._sweeps if other.owner == sweep.owner and not other.ended]
                return in_flight(owners), served(owners), self._sweeps.index(sweep)

            chosen = min(best.values(), key=turn)
            turns.append((chosen, next_cells[chosen.id]))
        return turns

    def heartbeat(self, beats: Sequence[Beat], *, ttl: float) -> list[Lease]:
        with self._transaction() as now:
            lost: list[Lease] = []
            for beat in beats:
                entry = self._held(beat.lease)
                if entry is None:
                    lost.append(beat.lease)
                elif any(
                    sweep.state in (SweepState.IN_PROGRESS, SweepState.PAUSED) for sweep in self._that_need(entry)
                ):
                    news = beat.samples != entry.progress
                    entry.progress, entry.expires_at = beat.samples, now + ttl
                    if news:
                        self._tell_all(entry, "cell.progress", cell_samples=beat.samples)
                else:
                    lost.append(beat.lease)
                    entry.state, entry.error = CellState.PENDING, None
            return lost

    def report(self, reports: Sequence[Report]) -> list[Lease]:
        with self._transaction():
            late: list[Lease] = []
            for report in reports:
                entry = self._held(report.lease)
                if entry is None:
                    late.append(report.lease)
                else:
                    self._end(entry, report)
            return late

    def _end(self, entry: _Cell, report: Report) -> None:
        entry.error = report.error
        if report.ending is Ending.COMPLETED:
            entry.state, entry.file, entry.runs_alone, entry.expiries = CellState.COMPLETED, report.file, False, 0
            self._tell_all(entry, "cell.completed")
        elif report.ending is Ending.RETURNED:
            entry.state = CellState.PENDING
            if report.error is not None:
                self._tell_all(entry, "cell.retrying", error=report.error)
        elif report.ending is Ending.SUSPECTED and not entry.runs_alone:
            entry.state, entry.runs_alone = CellState.PENDING, True
            self._tell_failure(entry)
        else:
            entry.failures += 1
            hopeless = report.ending is Ending.REFUSED or entry.failures >= ATTEMPTS
            entry.state = CellState.FAILED if hopeless else CellState.PENDING
            self._tell_failure(entry)

    def _tell_failure(self, entry: _Cell) -> None:
        kind = "cell.failed" if entry.state is CellState.FAILED else "cell.retrying"
        self._tell_all(entry, kind, **({} if entry.error is None else {"error": entry.error}))

    def expire_leases(self) -> int:
        with self._transaction() as now:
            leased = [self._cells[cell_id] for cell_id in sorted(self._cells)]
            late = [entry for entry in leased if entry.state is CellState.LEASED and entry.expires_at <= now]
            for entry in late:
                entry.expiries += 1
                entry.state = CellState.FAILED if entry.expiries >= EXPIRIES else CellState.PENDING
                entry.error = f"the lease of {entry.owner} ran out"
                self._tell_failure(entry)
            return len(late)

    def reset_cell(self, cell_id: str, reason: str, *, file: str | None = None) -> None:
        with self._transaction():
            if cell_id not in self._cells:
                raise NotFound(cell_id)
            entry = self._cells[cell_id]
            if entry.state is CellState.COMPLETED and (file is None or file == entry.record().file):
                self._forget(entry, reason)

    def census(self) -> Census:
        with self._lock:
            waiting = [sweep for sweep in self._in_progress() if sweep.number(CellState.PENDING)]
            cells = self._cells.values()
            return Census(
                sweeps=Counter(sweep.state.value for sweep in self._sweeps),
                cells=Counter(entry.state.value for entry in cells),
                leases=Counter(entry.owner for entry in cells if entry.state is CellState.LEASED),
                cells_asked=sum(len(sweep.cells) for sweep in self._sweeps),
                cells_reused=sum(sweep.reused for sweep in self._sweeps),
                oldest_waiting=min((sweep.created_at for sweep in waiting), default=None),
                longest_unserved=min((max(sweep.created_at, sweep.served_at) for sweep in waiting), default=None),
            )

    # --- what the calls have in common

    @contextmanager
    def _transaction(self) -> Iterator[float]:
        """Let one call in at a time; afterwards every sweep is where its cells have brought it."""
        with self._lock:
            yield self._clock.now()
            for sweep in self._sweeps:
                if sweep.state in (SweepState.IN_PROGRESS, SweepState.PAUSED) and sweep.all_done:
                    self._enter(sweep, SweepState.FINALIZING)
                elif sweep.state is SweepState.FINALIZING and not sweep.all_done:
                    self._enter(sweep, SweepState.IN_PROGRESS)
                elif sweep.state is SweepState.CANCELLING and not sweep.number(CellState.LEASED):
                    self._enter(sweep, SweepState.CANCELLED)

    def _enter(self, sweep: _Sweep, state: SweepState, **data: Any) -> None:
        sweep.state, sweep.ended_at, sweep.lease_ends_at = state, None, None
        if state in (SweepState.COMPLETED, SweepState.FAILED, SweepState.CANCELLED):
            sweep.ended_at, sweep.frozen = self._clock.now(), sweep.counted()
        self._tell(sweep, f"sweep.{state.value}", **data)

    def _tell(self, sweep: _Sweep, kind: str, **data: Any) -> None:
        counts, samples, failed_samples = sweep.counted()
        full = {
            "status": sweep.state.value,
            "request_counts": vars(counts),
            "samples": samples,
            "failed_samples": failed_samples,
            **data,
        }
        last = sweep.events[-1].id if sweep.events else 0
        event = Event(id=last + 1, sweep_id=sweep.id, type=kind, data=full, created_at=self._clock.now())
        sweep.events.append(event)

    def _tell_all(self, entry: _Cell, kind: str, **data: Any) -> None:
        for sweep in self._that_follow(entry):
            self._tell(sweep, kind, cell_id=entry.cell.id, **data)

    def _forget(self, entry: _Cell, reason: str | None) -> None:
        """Make an ended cell pending, as if it were new; its epoch goes on."""
        entry.state, entry.file, entry.error = CellState.PENDING, None, reason
        entry.failures, entry.expiries, entry.runs_alone = 0, 0, False
        self._tell_all(entry, "cell.reset", **({} if reason is None else {"error": reason}))

    def _held(self, lease: Lease) -> _Cell | None:
        entry = self._cells[lease.cell.id]
        return entry if entry.state is CellState.LEASED and entry.epoch == lease.epoch else None

    def _that_need(self, entry: _Cell) -> list[_Sweep]:
        return [sweep for sweep in self._sweeps if entry in sweep.cells]

    def _that_follow(self, entry: _Cell) -> list[_Sweep]:
        return [sweep for sweep in self._that_need(entry) if not sweep.ended]

    def _in_progress(self) -> list[_Sweep]:
        return [sweep for sweep in self._sweeps if sweep.state is SweepState.IN_PROGRESS]

    def _sweep(self, sweep_id: str) -> _Sweep:
        for sweep in self._sweeps:
            if sweep.id == sweep_id:
                return sweep
        raise NotFound(sweep_id)


def _page(records: list[Record], after: str | None, limit: int) -> Page[Record]:
    ids = [record.id for record in records]
    if after is not None and after not in ids:
        raise NotFound(after)
    start = 0 if after is None else ids.index(after) + 1
    return Page(data=tuple(records[start : start + limit]), has_more=len(records) > start + limit)
