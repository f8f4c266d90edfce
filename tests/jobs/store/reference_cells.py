"""The cells of the reference store and what all of its calls have in common; see `reference_store`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from threading import RLock
from typing import Any

from ampsweep.errors import NotFound
from jobs.clock import Clock
from jobs.store.records import CellFileState, CellOutcome, CellRecord, CellReport, Heartbeat, Lease, Page
from jobs.store.transitions import CellState, SweepState
from tests.jobs.store.reference_state import ReferenceCell, ReferenceSweep, choose_cells, page

ATTEMPTS = 3
EXPIRIES = 10


class ReferenceCells:
    """Implements the part of `jobs.store.protocol.Store` that is about cells."""

    def __init__(self, clock: Clock, new_id: Callable[[str], str]) -> None:
        self._clock = clock
        self._new_id = new_id
        self._sweeps: list[ReferenceSweep] = []
        self._cells: dict[str, ReferenceCell] = {}
        self._lock = RLock()

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
            served = [sweep for sweep in self._sweeps if sweep.state is SweepState.IN_PROGRESS]
            wanted = [(sweep, entry) for sweep in served if sweep.model in models for entry in sweep.cells]
            quarantined_cells: dict[str, tuple[ReferenceSweep, ReferenceCell]] = {}
            for sweep, entry in wanted:
                if entry.state is CellState.PENDING and entry.quarantined:
                    quarantined_cells.setdefault(entry.cell.id, (sweep, entry))
            chosen = [quarantined_cells[cell_id] for cell_id in sorted(quarantined_cells)][: min(exclusive, limit)]
            chosen_cells = choose_cells(self._sweeps, models, limit - len(chosen))
            for sweep, _ in chosen_cells:
                sweep.served_at = now
            return [self._lease(entry, owner, now + ttl, sweep.model) for sweep, entry in chosen + chosen_cells]

    def _lease(self, entry: ReferenceCell, owner: str, expires_at: float, model: str) -> Lease:
        entry.cell = replace(entry.cell, model=model)
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
