"""A reference implementation of the store for tests, written from the protocol alone; `reference_state` is part of it.

It shares records and names of states with the product, but none of its rules: no transition table, no attempt
accounting, no fair share. Counts are computed from the cells when they are read. It is slow and small.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from threading import RLock
from typing import Any

from ampsweep.errors import Conflict, InvalidRequest, NotFound
from jobs.cell import Cell
from jobs.clock import Clock
from jobs.store.records import (
    CellFileState,
    CellOutcome,
    CellRecord,
    CellReport,
    Event,
    Heartbeat,
    Lease,
    Page,
    StoreStats,
    SweepFiles,
    SweepFilesState,
    SweepLease,
    SweepRecord,
)
from jobs.store.transitions import CellState, SweepState
from tests.jobs.store.reference_state import ReferenceCell, ReferenceSweep, choose_cells, page, stats_of

ATTEMPTS = 3
EXPIRIES = 10


class ReferenceStore:
    """Implements `jobs.store.protocol.Store`; gone with the process."""

    def __init__(self, clock: Clock, new_id: Callable[[str], str]) -> None:
        self._clock = clock
        self._new_id = new_id
        self._sweeps: list[ReferenceSweep] = []
        self._cells: dict[str, ReferenceCell] = {}
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
            entries = self._wanted(cells)
            sweep = ReferenceSweep(
                id=self._new_id("sweep"),
                name=name,
                spec=spec,
                key=idempotency_key,
                owner=owner,
                priority=priority,
                warnings=tuple(warnings),
                created_at=now,
                cells=entries,
                reused=sum(cell.state is CellState.COMPLETED for cell in entries),
                model=cells[0].model,
            )
            self._sweeps.append(sweep)
            sweep.tell("sweep.created", self._clock.now())
        return sweep.record()

    def _wanted(self, cells: Sequence[Cell]) -> list[ReferenceCell]:
        entries = [self._cells.setdefault(cell.id, ReferenceCell(cell=cell)) for cell in cells]
        for entry in entries:
            unanswered = entry.file is not None and 0 < entry.file.rows == entry.file.failed_samples
            if entry.state is CellState.FAILED or unanswered:
                self._forget(entry, None)
        for entry, cell in zip(entries, cells, strict=True):
            if entry.state is CellState.PENDING:
                entry.cell = cell  # the model may have another name today
        return entries

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

    def list_sweeps(
        self, *, after: str | None = None, limit: int = 20, tags: Sequence[str] = (), text: str = ""
    ) -> Page[SweepRecord]:
        with self._lock:
            ids = [sweep.id for sweep in self._sweeps]
            if after is not None and after not in ids:
                raise NotFound(after)
            older = self._sweeps if after is None else self._sweeps[: ids.index(after)]
            shown = [
                sweep.record()
                for sweep in reversed(older)
                if not sweep.deleted
                and set(tags) <= set(sweep.tags)
                and any(text.lower() in where.lower() for where in (sweep.name, sweep.model, sweep.id))
            ]
            return page(shown, None, limit)

    def update_sweep(self, sweep_id: str, *, name: str | None = None, tags: Sequence[str] | None = None) -> SweepRecord:
        with self._transaction():
            sweep = self._sweep(sweep_id)
            sweep.name = sweep.name if name is None else name
            sweep.tags = sweep.tags if tags is None else tuple(sorted(tags))
        return self.get_sweep(sweep_id)

    def delete_sweep(self, sweep_id: str) -> None:
        with self._transaction() as now:
            sweep = self._sweep(sweep_id)
            if not sweep.ended:
                raise Conflict(f"{sweep_id} has not ended")
            sweep.deleted, sweep.key, sweep.files = True, None, None
            sweep.expired_at = now if sweep.expired_at is None else sweep.expired_at

    def erase_deleted(self) -> int:
        with self._transaction():
            gone = [sweep for sweep in self._sweeps if sweep.deleted and sweep.cells]
            for sweep in gone:
                self._forget_unneeded(sweep.cells)
                sweep.cells, sweep.events = [], []
            return len(gone)

    def cancel_sweep(self, sweep_id: str) -> SweepRecord:
        return self._change_state(sweep_id, SweepState.CANCELLING, (SweepState.IN_PROGRESS, SweepState.PAUSED))

    def pause_sweep(self, sweep_id: str) -> SweepRecord:
        return self._change_state(sweep_id, SweepState.PAUSED, (SweepState.IN_PROGRESS,))

    def resume_sweep(self, sweep_id: str) -> SweepRecord:
        return self._change_state(sweep_id, SweepState.IN_PROGRESS, (SweepState.PAUSED,))

    def _change_state(self, sweep_id: str, target: SweepState, sources: Sequence[SweepState]) -> SweepRecord:
        with self._transaction():
            sweep = self._sweep(sweep_id)
            if sweep.state in sources:
                self._enter(sweep, target)
            elif sweep.state is not target:
                raise Conflict(f"{sweep.state} to {target}")
        return self.get_sweep(sweep_id)

    def finalizing(self) -> list[str]:
        with self._lock:
            return [sweep.id for sweep in self._sweeps if sweep.can_be_leased(self._clock.now())]

    def lease_sweep(self, sweep_id: str, owner: str, *, ttl: float) -> SweepLease | None:
        with self._transaction() as now:
            sweep = self._sweep(sweep_id)
            if not sweep.can_be_leased(self._clock.now()):
                return None
            sweep.lease_ends_at = now + ttl
            epoch = len(sweep.leases) + 1
            sweep.leases.append(SweepLease(sweep_id=sweep_id, owner=owner, epoch=epoch, expires_at=now + ttl))
            return sweep.leases[-1]

    def extend_sweep_leases(self, leases: Sequence[SweepLease], *, ttl: float) -> list[SweepLease]:
        with self._transaction() as now:
            known = {sweep.id: sweep for sweep in self._sweeps if not sweep.deleted}
            held = [each for each in leases if each.sweep_id in known and known[each.sweep_id].is_held_under(each)]
            lost = [each for each in leases if each not in held]
            for lease in leases:
                if lease not in lost:
                    self._sweep(lease.sweep_id).lease_ends_at = now + ttl
            return lost

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

    def _leased(self, lease: SweepLease) -> ReferenceSweep:
        if not self._sweep(lease.sweep_id).is_held_under(lease):
            raise Conflict("the sweep must be finalizing, and the lease current")
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
                self._forget_unneeded(sweep.cells)
            return [sweep.id for sweep in gone]

    def _forget_unneeded(self, entries: Sequence[ReferenceCell]) -> None:
        for entry in entries:
            needed = any(entry in other.cells for other in self._sweeps if other.expired_at is None)
            if entry.state is CellState.COMPLETED and not needed:
                self._forget(entry, None)

    def prune_events(self, before: float) -> int:
        with self._transaction():
            pruned = 0
            for sweep in self._sweeps:
                if sweep.ended_at is not None and sweep.ended_at < before:
                    remaining = [event for event in sweep.events if not event.type.startswith("cell.")]
                    pruned += len(sweep.events) - len(remaining)
                    sweep.events = remaining
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
            records = [entry.record() for entry in self._sweep(sweep_id).cells]
            if only_failures:
                records = [cell for cell in records if cell.state is CellState.FAILED or cell.failed_samples]
            return page(records, after, limit)

    def first_reasons(self, sweep_ids: Sequence[str]) -> Mapping[str, str]:
        known = [sweep.id for sweep in self._sweeps if not sweep.deleted]
        failing = {sweep_id: self.list_cells(sweep_id, only_failures=True).data for sweep_id in known}
        reasons = {sweep_id: cells[0].error or cells[0].sample_error for sweep_id, cells in failing.items() if cells}
        return {sweep_id: reason for sweep_id, reason in reasons.items() if reason and sweep_id in sweep_ids}

    def cell_files(self, cell_ids: Sequence[str]) -> Mapping[str, CellFileState]:
        with self._lock:
            entries = {cell_id: self._cells[cell_id] for cell_id in cell_ids if cell_id in self._cells}
            return {
                cell_id: CellFileState(
                    file=entry.record().file, epoch=entry.epoch, leased=entry.state is CellState.LEASED
                )
                for cell_id, entry in entries.items()
            }

    def lease_cells(
        self, owner: str, *, models: Sequence[str], limit: int, ttl: float, exclusive: int = 0
    ) -> list[Lease]:
        with self._transaction() as now:
            wanted = [entry for sweep in self._sweeps if sweep.state is SweepState.IN_PROGRESS for entry in sweep.cells]
            free = [entry for entry in wanted if entry.state is CellState.PENDING and entry.cell.model in models]
            quarantined_cells = {entry.cell.id: entry for entry in free if entry.quarantined}
            chosen = [quarantined_cells[cell_id] for cell_id in sorted(quarantined_cells)][: min(exclusive, limit)]
            chosen_cells = choose_cells(self._sweeps, models, limit - len(chosen))
            for sweep, entry in chosen_cells:
                sweep.served_at = now
                chosen.append(entry)
            return [self._lease(entry, owner, now + ttl) for entry in chosen]

    def _lease(self, entry: ReferenceCell, owner: str, expires_at: float) -> Lease:
        entry.state, entry.owner, entry.expires_at, entry.progress = CellState.LEASED, owner, expires_at, 0
        entry.epoch += 1
        return Lease(
            cell=entry.cell,
            owner=owner,
            epoch=entry.epoch,
            expires_at=expires_at,
            exclusive=entry.quarantined,
            tries=1 + entry.failures + entry.expiries,
            sweep_ids=tuple(sweep.id for sweep in self._that_follow(entry)),
        )

    def heartbeat(self, heartbeats: Sequence[Heartbeat], *, ttl: float) -> list[Lease]:
        with self._transaction() as now:
            lost: list[Lease] = []
            for heartbeat in heartbeats:
                entry = self._held(heartbeat.lease)
                if entry is None:
                    lost.append(heartbeat.lease)
                elif any(
                    sweep.state in (SweepState.IN_PROGRESS, SweepState.PAUSED) for sweep in self._that_need(entry)
                ):
                    pending_events = heartbeat.samples != entry.progress
                    entry.progress, entry.expires_at = heartbeat.samples, now + ttl
                    if pending_events:
                        self._tell_all(entry, "cell.progress", cell_samples=heartbeat.samples)
                    elif heartbeat.recording is not None and entry.cell.neurons is not None:
                        recording = heartbeat.recording.to_dict()
                        self._tell_all(entry, "cell.finding_neurons", neuron_set=entry.cell.neurons.id, **recording)
                else:
                    lost.append(heartbeat.lease)
                    entry.state, entry.error = CellState.PENDING, None
            return lost

    def report(self, reports: Sequence[CellReport]) -> list[Lease]:
        with self._transaction():
            late: list[Lease] = []
            for report in reports:
                entry = self._held(report.lease)
                if entry is None:
                    late.append(report.lease)
                else:
                    self._end(entry, report)
            return late

    def _end(self, entry: ReferenceCell, report: CellReport) -> None:
        entry.error = report.error
        if report.outcome is CellOutcome.COMPLETED:
            entry.state, entry.file, entry.quarantined, entry.expiries = CellState.COMPLETED, report.file, False, 0
            self._tell_all(entry, "cell.completed")
        elif report.outcome is CellOutcome.RELEASED:
            entry.state = CellState.PENDING
            if report.error is not None:
                self._tell_all(entry, "cell.retrying", error=report.error)
        elif report.outcome is CellOutcome.SUSPECT and not entry.quarantined:
            entry.state, entry.quarantined = CellState.PENDING, True
            self._tell_failure(entry)
        else:
            entry.failures += 1
            hopeless = report.outcome is CellOutcome.REJECTED or entry.failures >= ATTEMPTS
            entry.state = CellState.FAILED if hopeless else CellState.PENDING
            self._tell_failure(entry)

    def _tell_failure(self, entry: ReferenceCell) -> None:
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

    def stats(self) -> StoreStats:
        with self._lock:
            return stats_of(self._sweeps, self._cells.values())

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

    def _enter(self, sweep: ReferenceSweep, state: SweepState, **data: Any) -> None:
        sweep.state, sweep.ended_at, sweep.lease_ends_at = state, None, None
        if state in (SweepState.COMPLETED, SweepState.FAILED, SweepState.CANCELLED):
            sweep.ended_at, sweep.frozen = self._clock.now(), sweep.counted()
        sweep.tell(f"sweep.{state.value}", self._clock.now(), **data)

    def _tell_all(self, entry: ReferenceCell, kind: str, **data: Any) -> None:
        for sweep in self._that_follow(entry):
            sweep.tell(kind, self._clock.now(), cell_id=entry.cell.id, **data)

    def _forget(self, entry: ReferenceCell, reason: str | None) -> None:
        """Make an ended cell pending, as if it were new; its epoch goes on."""
        entry.state, entry.file, entry.error = CellState.PENDING, None, reason
        entry.failures, entry.expiries, entry.quarantined = 0, 0, False
        self._tell_all(entry, "cell.reset", **({} if reason is None else {"error": reason}))

    def _held(self, lease: Lease) -> ReferenceCell | None:
        entry = self._cells[lease.cell.id]
        return entry if entry.state is CellState.LEASED and entry.epoch == lease.epoch else None

    def _that_need(self, entry: ReferenceCell) -> list[ReferenceSweep]:
        return [sweep for sweep in self._sweeps if entry in sweep.cells]

    def _that_follow(self, entry: ReferenceCell) -> list[ReferenceSweep]:
        return [sweep for sweep in self._that_need(entry) if not sweep.ended]

    def _sweep(self, sweep_id: str) -> ReferenceSweep:
        for sweep in self._sweeps:
            if sweep.id == sweep_id and not sweep.deleted:
                return sweep
        raise NotFound(sweep_id)
