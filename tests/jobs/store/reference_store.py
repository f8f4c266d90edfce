"""A reference implementation of the store for tests, written from the protocol alone.

`reference_cells` and `reference_state` are parts of it. It shares records and names of states with the product, but
none of its rules: no transition table, no attempt accounting, no fair share. Counts are computed from the cells when
they are read. It is slow and small.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ampsweep.errors import Conflict, InvalidRequest, NotFound
from jobs.cell import Cell
from jobs.store.records import Event, Page, StoreStats, SweepFiles, SweepFilesState, SweepLease, SweepRecord
from jobs.store.transitions import CellState, SweepState
from tests.jobs.store.reference_cells import ReferenceCells
from tests.jobs.store.reference_state import ReferenceCell, ReferenceSweep, page, stats_of


class ReferenceStore(ReferenceCells):
    """Implements `jobs.store.protocol.Store`; gone with the process."""

    def close(self) -> None:
        pass

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

    def stats(self) -> StoreStats:
        with self._lock:
            return stats_of(self._sweeps, self._cells.values())
