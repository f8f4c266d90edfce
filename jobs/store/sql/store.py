"""Implementation of the store on SQLite and PostgreSQL.

May be called from any thread, and on PostgreSQL by any number of processes. The rules of state changes are in
`jobs.store.cell_state` and `jobs.store.sweep_state`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from secrets import token_hex
from typing import Any

import sqlalchemy as sa

from ampsweep.errors import Conflict, NotFound
from jobs.cell import Cell
from jobs.clock import Clock
from jobs.store.cell_state import CellEvent, CellStateMachine
from jobs.store.fair_share import allocate, next_turn
from jobs.store.lease_time import over
from jobs.store.records import (
    CellFileState,
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
from jobs.store.sql.batches import Batches
from jobs.store.sql.database import Database, open_database
from jobs.store.sql.evaluations import Evaluations
from jobs.store.sql.history import History
from jobs.store.sql.queries import (
    FAILING,
    PENDING_CELLS,
    cell_files,
    collect_stats,
    find_sweep_row,
    first_reasons,
    held_cells,
    link_cells,
    quarantined_cells,
    queued_sweeps,
    sweep_files,
    sweep_of_key,
    sweep_page,
    sweep_records,
    sweep_row,
    sweep_state_by_id,
)
from jobs.store.sql.ratings import Ratings
from jobs.store.sql.removal import Removal, mark_deleted
from jobs.store.sql.rows import cell_state_of, event_record, sweep_state_columns
from jobs.store.sql.tables import cells, events, sweep_cells, sweep_tags, sweeps
from jobs.store.sql.transaction import Transaction, cell_bodies, write_transaction
from jobs.store.sweep_state import SweepStateMachine
from jobs.store.transitions import SWEEP_ACTIVE, SWEEP_RUNNING, CellState, SweepState


def random_id(prefix: str) -> str:
    """Return `prefix`, an underscore and 128 random bits as 32 hexadecimal digits."""
    return f"{prefix}_{token_hex(16)}"


class SqlStore:
    """Implements `jobs.store.protocol.Store`.

    When an SQLite file is opened, all of its leases are ended: the process that held them is gone.

    Args:
        url: `sqlite:///PATH` or `postgresql://...`; see `jobs.store.sql.database`.
        clock: Gives the current time.
        new_id: Returns a new unique id with a given prefix.

    Attributes:
        evaluations: The evaluations of sweeps in the same database.
        batches: The batches and their files in the same database.
        ratings: The ratings of judges in the same database.
        history: What was computed before, for estimates.
    """

    def __init__(self, url: str, clock: Clock, new_id: Callable[[str], str] = random_id) -> None:
        self._database: Database = open_database(url)
        self._clock = clock
        self._new_id = new_id
        self.evaluations = Evaluations(self._database, clock)
        self.batches = Batches(self._database, clock, new_id)
        self.ratings = Ratings(self._database)
        self.history = History(self._database)
        self._removal = Removal(self._database, clock)
        if self._database.sole_owner:
            try:
                self._expire_where(cells.c.state == CellState.LEASED)
                with self._database.writing() as db:
                    db.execute(sa.update(sweeps).values(finalizer=None, finalizer_expires_at=None))
                for leased in (self.evaluations, self.batches):
                    leased.expire_leases()
            except BaseException:
                self._database.close()
                raise

    @property
    def sole_owner(self) -> bool:
        """Whether no other process can have the database open."""
        return self._database.sole_owner

    def close(self) -> None:
        """Close the database."""
        self._database.close()

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
        bodies = cell_bodies(cells)
        with self._write() as transaction:
            db, now = transaction.db, transaction.now
            if idempotency_key is not None and (first := sweep_of_key(db, idempotency_key, spec)):
                return first
            known_cells = transaction.store_cells(cells, bodies)
            reused = sum(cell.state is CellState.COMPLETED for cell in known_cells)
            sweep_id = self._new_id("sweep")
            sweep_state = SweepStateMachine(
                sweep_id=sweep_id, state=SweepState.IN_PROGRESS, total=len(cells), reused=reused
            )
            sweep_state.count(cell.counts for cell in known_cells)
            values = {"id": sweep_id, "name": name, "spec": spec, "idempotency_key": idempotency_key, "created_at": now}
            submission = {"owner": owner, "priority": priority, "model": cells[0].model, "warnings": list(warnings)}
            db.execute(sa.insert(sweeps).values(**values, **submission, **sweep_state_columns(sweep_state)))
            row = sweep_row(db, sweep_id)
            link_cells(db, row["seq"], cells, first=0)
            transaction.sweep_state(row).emit("sweep.created", now)
        return self.get_sweep(sweep_id)

    def sweep_of_key(self, idempotency_key: str, spec: Mapping[str, Any]) -> SweepRecord | None:
        """See the protocol."""
        with self._database.reading() as db:
            return sweep_of_key(db, idempotency_key, spec)

    def get_sweep(self, sweep_id: str) -> SweepRecord:
        """See the protocol."""
        with self._database.reading() as db:
            return sweep_records(db, [sweep_row(db, sweep_id)])[0]

    def list_sweeps(
        self, *, after: str | None = None, limit: int = 20, tags: Sequence[str] = (), text: str = ""
    ) -> Page[SweepRecord]:
        """See the protocol."""
        with self._database.reading() as db:
            return sweep_page(db, after=after, limit=limit, tags=tags, text=text)

    def cancel_sweep(self, sweep_id: str) -> SweepRecord:
        """See the protocol."""
        return self._change_state(sweep_id, SweepStateMachine.cancel)

    def pause_sweep(self, sweep_id: str) -> SweepRecord:
        """See the protocol."""
        return self._change_state(sweep_id, SweepStateMachine.pause)

    def resume_sweep(self, sweep_id: str) -> SweepRecord:
        """See the protocol."""
        return self._change_state(sweep_id, SweepStateMachine.resume)

    def _change_state(self, sweep_id: str, change: Callable[[SweepStateMachine, float], None]) -> SweepRecord:
        with self._write() as transaction:
            change(sweep_state_by_id(transaction, sweep_id), transaction.now)
        return self.get_sweep(sweep_id)

    def finalizing(self) -> list[str]:
        """See the protocol."""
        unleased = over(sweeps.c.finalizer_expires_at, self._clock.now())
        query = sa.select(sweeps.c.id).where(sweeps.c.state == SweepState.FINALIZING, unleased).order_by(sweeps.c.seq)
        with self._database.reading() as db:
            return list(db.execute(query).scalars())

    def lease_sweep(self, sweep_id: str, owner: str, *, ttl: float) -> SweepLease | None:
        """See the protocol."""
        with self._write() as transaction:
            return sweep_state_by_id(transaction, sweep_id).lease(owner, transaction.now, ttl)

    def extend_sweep_leases(self, leases: Sequence[SweepLease], *, ttl: float) -> list[SweepLease]:
        """See the protocol."""
        with self._write() as transaction:
            rows = [find_sweep_row(transaction.db, lease.sweep_id) for lease in leases]
            return [
                lease
                for lease, row in zip(leases, rows, strict=True)
                if row is None or not transaction.sweep_state(row).extend_lease(lease, transaction.now + ttl)
            ]

    def extend_sweep(self, lease: SweepLease, cells: Sequence[Cell]) -> SweepRecord:
        """See the protocol."""
        bodies = cell_bodies(cells)
        with self._write() as transaction:
            row = sweep_row(transaction.db, lease.sweep_id)
            stored = {cell.cell.id: cell for cell in transaction.store_cells(cells, bodies)}
            states = [stored.get(cell.id) or CellStateMachine(cell=cell) for cell in cells]
            transaction.sweep_state(row).extend(lease, (state.counts for state in states), transaction.now)
            link_cells(transaction.db, row["seq"], cells, first=row["total"])
        return self.get_sweep(lease.sweep_id)

    def finish_sweep(
        self, lease: SweepLease, *, files: SweepFiles | None = None, error: str | None = None
    ) -> SweepRecord:
        """See the protocol."""
        with self._write() as transaction:
            sweep_state_by_id(transaction, lease.sweep_id).finish(lease, files, error, transaction.now)
        return self.get_sweep(lease.sweep_id)

    def reopen_sweep(self, sweep_id: str, reason: str) -> SweepRecord:
        """See the protocol."""
        with self._write() as transaction:
            row = sweep_row(transaction.db, sweep_id)
            if row["expired_at"] is not None:
                raise Conflict(f"the results of sweep {sweep_id} have expired")
            if row["state"] not in SWEEP_ACTIVE:
                transaction.sweep_state(row).reopen(reason, transaction.cell_counts(row["seq"]), transaction.now)
        return self.get_sweep(sweep_id)

    def update_sweep(self, sweep_id: str, *, name: str | None = None, tags: Sequence[str] | None = None) -> SweepRecord:
        """See the protocol."""
        with self._database.writing() as db:
            seq = sweep_row(db, sweep_id)["seq"]
            if name is not None:
                db.execute(sa.update(sweeps).where(sweeps.c.seq == seq).values(name=name))
            if tags is not None:
                db.execute(sa.delete(sweep_tags).where(sweep_tags.c.sweep_seq == seq))
            for tag in tags or ():
                db.execute(sa.insert(sweep_tags).values(sweep_seq=seq, tag=tag))
        return self.get_sweep(sweep_id)

    def delete_sweep(self, sweep_id: str) -> None:
        """See the protocol."""
        with self._database.writing() as db:
            mark_deleted(db, sweep_id, self._clock.now())

    def erase_deleted(self) -> int:
        """See the protocol."""
        return self._removal.erase_deleted()

    def expire_results(self, before: float) -> Sequence[str]:
        """See the protocol."""
        return self._removal.expire_results(before)

    def prune_events(self, before: float) -> int:
        """See the protocol."""
        return self._removal.prune_events(before)

    def sweep_files(self, sweep_ids: Sequence[str]) -> Mapping[str, SweepFilesState]:
        """See the protocol."""
        with self._database.reading() as db:
            return sweep_files(db, sweep_ids)

    def events(self, sweep_id: str, *, after: int = 0, limit: int = 1000) -> list[Event]:
        """See the protocol."""
        with self._database.reading() as db:
            of_sweep = events.c.sweep_seq == sweep_row(db, sweep_id)["seq"]
            query = sa.select(events).where(of_sweep, events.c.id > after).order_by(events.c.id).limit(limit)
            return [event_record(row, sweep_id) for row in db.execute(query).mappings()]

    def list_cells(
        self, sweep_id: str, *, after: str | None = None, limit: int = 100, only_failures: bool = False
    ) -> Page[CellRecord]:
        """See the protocol."""
        with self._database.reading() as db:
            of_sweep = sweep_cells.c.sweep_seq == sweep_row(db, sweep_id)["seq"]
            query = sa.select(cells).join(sweep_cells, sweep_cells.c.cell_id == cells.c.id).where(of_sweep)
            query = query.order_by(sweep_cells.c.position).limit(limit + 1)
            if only_failures:
                query = query.where(FAILING)
            if after is not None:
                position_query = sa.select(sweep_cells.c.position).where(of_sweep, sweep_cells.c.cell_id == after)
                if (position := db.execute(position_query).scalar()) is None:
                    raise NotFound(f"sweep {sweep_id} has no cell {after}", param="after")
                query = query.where(sweep_cells.c.position > position)
            rows = db.execute(query).mappings().all()
        return Page(data=tuple(cell_state_of(row).record for row in rows[:limit]), has_more=len(rows) > limit)

    def first_reasons(self, sweep_ids: Sequence[str]) -> Mapping[str, str]:
        """See the protocol."""
        with self._database.reading() as db:
            return first_reasons(db, sweep_ids)

    def cell_files(self, cell_ids: Sequence[str]) -> Mapping[str, CellFileState]:
        """See the protocol."""
        with self._database.reading() as db:
            return cell_files(db, cell_ids)

    def lease_cells(
        self, owner: str, *, models: Sequence[str], limit: int, ttl: float, exclusive: int = 0
    ) -> list[Lease]:
        """See the protocol."""
        with self._write() as transaction:
            quarantined = quarantined_cells(transaction.db, models, min(exclusive, limit))
            first_pending: dict[int, Any] = {}

            def pending_cells(seq: int, count: int) -> list[str]:
                rows = transaction.db.execute(PENDING_CELLS, {"seq": seq, "at_most": count}).all()
                if rows:
                    first_pending[seq] = rows[0]
                return [row.id for row in rows]

            queued = queued_sweeps(transaction.db, models)
            allocated = allocate(queued, limit - len(quarantined), pending_cells)
            names = quarantined | {cell_id: first_pending[seq].model for cell_id, seq in allocated}
            leased = transaction.cells_by_id(list(names))
            for cell in leased:
                transaction.name_model(cell, names[cell.cell.id])
            transaction.move(leased, lambda cell: cell.lease(owner, transaction.now + ttl))
            for _, seq in allocated:
                sweep_state = transaction.sweep_state_at(seq)
                sweep_state.served_at = next_turn(queued, transaction.now)
                sweep_state.first_pending = first_pending[seq].position
            sweep_ids = {
                cell_id: tuple(sweep_state.sweep_id for sweep_state in sweep_states)
                for cell_id, sweep_states in transaction.sweep_states_of(leased).items()
            }
            return [replace(cell.current_lease, sweep_ids=sweep_ids[cell.cell.id]) for cell in leased]

    def heartbeat(self, heartbeats: Sequence[Heartbeat], *, ttl: float) -> list[Lease]:
        """See the protocol."""
        with self._write() as transaction:
            leases = [heartbeat.lease for heartbeat in heartbeats]
            held, lost = held_cells(transaction, leases)
            heartbeat_of = {(each.lease.cell.id, each.lease.epoch): each for each in heartbeats}
            sweeps_of = transaction.sweep_states_of(held)
            needed = {
                cell_id for cell_id in sweeps_of if any(sweep.state in SWEEP_RUNNING for sweep in sweeps_of[cell_id])
            }

            def change(cell: CellStateMachine) -> CellEvent | None:
                if cell.cell.id in needed:
                    return cell.heartbeat(heartbeat_of[cell.cell.id, cell.epoch], transaction.now + ttl)
                return cell.abandon()

            transaction.move(held, change)
            return [lease for lease in leases if lease in lost or lease.cell.id not in needed]

    def report(self, reports: Sequence[CellReport]) -> list[Lease]:
        """See the protocol."""
        with self._write() as transaction:
            held, late = held_cells(transaction, [report.lease for report in reports])
            report_of = {(report.lease.cell.id, report.lease.epoch): report for report in reports}
            transaction.move(held, lambda cell: cell.end(report_of[cell.cell.id, cell.epoch]))
            return late

    def expire_leases(self) -> int:
        """See the protocol."""
        overdue = sa.and_(cells.c.state == CellState.LEASED, over(cells.c.expires_at, self._clock.now()))
        with self._database.reading() as db:
            if db.execute(sa.select(cells.c.id).where(overdue).limit(1)).first() is None:
                return 0
        return self._expire_where(overdue)

    def _expire_where(self, condition: sa.ColumnElement[bool]) -> int:
        with self._write() as transaction:
            expired = transaction.cells(condition)
            transaction.move(expired, CellStateMachine.expire)
            return len(expired)

    def reset_cell(self, cell_id: str, reason: str, *, file: str | None = None) -> None:
        """See the protocol."""
        with self._write() as transaction:
            if not (cells_with_id := transaction.cells_by_id([cell_id])):
                raise NotFound(f"no cell {cell_id}")
            (cell,) = cells_with_id
            if cell.state is CellState.COMPLETED and file in (None, cell.file and cell.file.name):
                transaction.move([cell], lambda damaged: damaged.reset(reason))

    def stats(self) -> StoreStats:
        """See the protocol."""
        with self._database.reading() as db:
            return collect_stats(db)

    def _write(self) -> AbstractContextManager[Transaction]:
        return write_transaction(self._database, self._clock)
