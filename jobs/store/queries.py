"""Reads that the SQL store's transactions have in common: sweeps by id and key, cells to lease, leases that count."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from ampsweep.errors import InvalidRequest, NotFound
from ampsweep.hashing import canonical_json
from jobs.cell import Cell
from jobs.store.cell_state import CellStateMachine
from jobs.store.fair_share import Queued
from jobs.store.records import Lease, StoreStats, SweepRecord
from jobs.store.rows import Row, sweep_record
from jobs.store.sweep_state import SweepStateMachine
from jobs.store.tables import cells, sweep_cells, sweeps
from jobs.store.transaction import Transaction
from jobs.store.transitions import SWEEP_ACTIVE, CellState, SweepState

# Statements that are run for every cell or sweep are made once: to put one together takes longer than to run it.
_BY_ID = sa.select(sweeps).where(sweeps.c.id == sa.bindparam("id"))
_BY_KEY = sa.select(sweeps).where(sweeps.c.idempotency_key == sa.bindparam("key"))
PENDING_CELLS = (
    sa.select(cells.c.id, sweep_cells.c.position)
    .join_from(sweeps, sweep_cells)
    .join(cells)
    .where(
        sweeps.c.seq == sa.bindparam("seq"),
        sweep_cells.c.position >= sweeps.c.first_pending,
        cells.c.state == CellState.PENDING,
        cells.c.suspect.is_(False),
        cells.c.model.in_(sa.bindparam("models", expanding=True)),
    )
    .order_by(sweep_cells.c.position)
    .limit(sa.bindparam("at_most", type_=sa.Integer))
)


def sweep_row(db: sa.Connection, sweep_id: str) -> Row:
    """Return a sweep's row; NotFound if there is none."""
    row = db.execute(_BY_ID, {"id": sweep_id}).mappings().first()
    if row is None:
        raise NotFound(f"no sweep {sweep_id}")
    return row


def sweep_state_by_id(transaction: Transaction, sweep_id: str) -> SweepStateMachine:
    """Return the state machine of a sweep in a transaction; NotFound if there is none."""
    return transaction.sweep_state(sweep_row(transaction.db, sweep_id))


def sweep_of_key(db: sa.Connection, idempotency_key: str, spec: Mapping[str, Any]) -> SweepRecord | None:
    """Return the sweep of a key; None if there is none, InvalidRequest if its spec differs."""
    first = db.execute(_BY_KEY, {"key": idempotency_key}).mappings().first()
    if first is None:
        return None
    if canonical_json(first["spec"]) != canonical_json(spec):
        message = "this key was used with another spec; choose a new key for a new sweep"
        raise InvalidRequest(message, param="Idempotency-Key")
    return sweep_record(first)


def link_cells(db: sa.Connection, seq: int, wanted: Sequence[Cell], *, first: int) -> None:
    """Link cells to a sweep, from the position `first` of its plan on."""
    links = [{"sweep_seq": seq, "position": at, "cell_id": cell.id} for at, cell in enumerate(wanted, start=first)]
    db.execute(sa.insert(sweep_cells), links)


def held_cells(transaction: Transaction, leases: Sequence[Lease]) -> tuple[list[CellStateMachine], list[Lease]]:
    """Return the cells whose lease counts, and the leases that have passed."""
    known = {cell.cell.id: cell for cell in transaction.cells_by_id([lease.cell.id for lease in leases])}
    held, passed = list[CellStateMachine](), list[Lease]()
    for lease in leases:
        cell = known.get(lease.cell.id)
        if cell is not None and cell.held_under(lease):
            held.append(cell)
        else:
            passed.append(lease)
    return held, passed


def queued_sweeps(db: sa.Connection, models: Sequence[str]) -> list[Queued]:
    """Return the active sweeps; those wait that have cells to lease on one of the models."""
    at = sweeps.c
    pending = sa.and_(
        at.state == SweepState.IN_PROGRESS,
        at.model.in_(models),
        at.total > at.completed + at.failed + at.leased,
    ).label("pending")
    query = sa.select(at.seq, at.owner, at.priority, at.leased, at.served_at, pending).where(at.state.in_(SWEEP_ACTIVE))
    return [
        Queued(seq=seq, owner=owner, priority=priority, running=leased, served_at=served_at, pending=pending)
        for seq, owner, priority, leased, served_at, pending in db.execute(query)
    ]


def quarantined_cells(db: sa.Connection, models: Sequence[str], limit: int) -> list[str]:
    """Return pending cells that must run alone, by id."""
    if not limit:
        return []
    free = sa.and_(cells.c.state == CellState.PENDING, cells.c.suspect.is_(True), cells.c.model.in_(models))
    wanted = sa.select(sweep_cells.c.cell_id).join(sweeps).where(sweeps.c.state == SweepState.IN_PROGRESS)
    query = sa.select(cells.c.id).where(free, cells.c.id.in_(wanted)).order_by(cells.c.id).limit(limit)
    return list(db.execute(query).scalars())


def collect_stats(db: sa.Connection) -> StoreStats:
    """Count sweeps, cells and leases; the cells by an index that has their states."""
    at = sweeps.c
    waits = sa.and_(at.state == SweepState.IN_PROGRESS, at.total > at.completed + at.failed + at.leased)
    served = sa.case((at.served_at > at.created_at, at.served_at), else_=at.created_at)
    oldest, unserved = db.execute(sa.select(sa.func.min(at.created_at), sa.func.min(served)).where(waits)).one()
    asked, reused = db.execute(sa.select(sa.func.sum(at.total), sa.func.sum(at.reused))).one()
    leased = cells.c.state == CellState.LEASED
    return StoreStats(
        sweeps=_counted(db, sa.select(at.state, sa.func.count()).group_by(at.state)),
        cells=_counted(db, sa.select(cells.c.state, sa.func.count()).group_by(cells.c.state)),
        leases=_counted(db, sa.select(cells.c.owner, sa.func.count()).where(leased).group_by(cells.c.owner)),
        cells_asked=int(asked or 0),
        cells_reused=int(reused or 0),
        oldest_waiting=oldest,
        longest_unserved=unserved,
    )


def _counted(db: sa.Connection, query: sa.Select[Any]) -> dict[str, int]:
    return {row[0]: row[1] for row in db.execute(query)}
