"""SELECT statements that methods of the SQL store share, and the statistics of the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from ampsweep.errors import InvalidRequest, NotFound
from ampsweep.hashing import canonical_json
from jobs.cell import Cell
from jobs.store.cell_state import CellStateMachine
from jobs.store.fair_share import QueuedSweep
from jobs.store.records import CellFileState, Lease, Page, StoreStats, SweepFiles, SweepFilesState, SweepRecord
from jobs.store.sql.rows import Row, sweep_record
from jobs.store.sql.tables import cells, sweep_cells, sweep_tags, sweeps
from jobs.store.sql.transaction import Transaction, chunks, insert
from jobs.store.sweep_state import SweepStateMachine
from jobs.store.transitions import SWEEP_ACTIVE, CellState, SweepState

# Statements that are run for every cell or sweep are built once: building one takes longer than running it.
NOT_DELETED = sweeps.c.deleted_at.is_(None)
"""Condition on a sweep. A deleted one is known to the clean-up of files alone."""
_BY_ID = sa.select(sweeps).where(sweeps.c.id == sa.bindparam("id"), NOT_DELETED)
_BY_KEY = sa.select(sweeps).where(sweeps.c.idempotency_key == sa.bindparam("key"))
PENDING_CELLS = (
    sa.select(cells.c.id, sweep_cells.c.position, sweeps.c.model)
    .join_from(sweeps, sweep_cells)
    .join(cells)
    .where(
        sweeps.c.seq == sa.bindparam("seq"),
        sweep_cells.c.position >= sweeps.c.first_pending,
        cells.c.state == CellState.PENDING,
        cells.c.suspect.is_(False),
    )
    .order_by(sweep_cells.c.position)
    .limit(sa.bindparam("at_most", type_=sa.Integer))
)


FAILING = sa.or_(cells.c.state == CellState.FAILED, cells.c.failed_samples > 0)
"""Condition on a cell: it failed, or some of its samples did."""
_FIRST_REASON = (
    sa.select(sa.func.coalesce(cells.c.error, cells.c.sample_error))
    .join_from(sweep_cells, cells)
    .where(sweep_cells.c.sweep_seq == sweeps.c.seq, FAILING)
    .order_by(sweep_cells.c.position)
    .limit(1)
    .scalar_subquery()
)


def find_sweep_row(db: sa.Connection, sweep_id: str) -> Row | None:
    """Return the row of a sweep; None if there is none, or no longer."""
    return db.execute(_BY_ID, {"id": sweep_id}).mappings().first()


def sweep_row(db: sa.Connection, sweep_id: str) -> Row:
    """Return the row of a sweep; raise NotFound if there is none, or no longer."""
    row = find_sweep_row(db, sweep_id)
    if row is None:
        raise NotFound(f"no sweep {sweep_id}")
    return row


def sweep_state_by_id(transaction: Transaction, sweep_id: str) -> SweepStateMachine:
    """Return the state machine of a sweep in a transaction; raise NotFound if there is none."""
    return transaction.sweep_state(sweep_row(transaction.db, sweep_id))


def sweep_of_key(db: sa.Connection, idempotency_key: str, spec: Mapping[str, Any]) -> SweepRecord | None:
    """Return the sweep of a key, or None; raise InvalidRequest if it has another spec."""
    row = db.execute(_BY_KEY, {"key": idempotency_key}).mappings().first()
    if row is None:
        return None
    if canonical_json(row["spec"]) != canonical_json(spec):
        message = f"idempotency key {idempotency_key!r} was used with another spec; use a new key for a new sweep"
        raise InvalidRequest(message, param="Idempotency-Key")
    return sweep_records(db, [row])[0]


def sweep_records(db: sa.Connection, rows: Sequence[Row]) -> list[SweepRecord]:
    """Return the records of rows of `sweeps`, with their tags."""
    tags: dict[int, list[str]] = {row["seq"]: [] for row in rows}
    query = sa.select(sweep_tags).where(sweep_tags.c.sweep_seq.in_(list(tags)))
    for seq, tag in db.execute(query):
        tags[seq].append(tag)
    return [sweep_record(row, sorted(tags[row["seq"]])) for row in rows]


def sweep_page(
    db: sa.Connection, *, after: str | None, limit: int, tags: Sequence[str], text: str
) -> Page[SweepRecord]:
    """Return a page of the sweeps that have all tags, and a text in their name, model or id; newest first.

    The page after a sweep that has been deleted meanwhile begins where that sweep was.
    """
    query = sa.select(sweeps).where(NOT_DELETED).order_by(sweeps.c.seq.desc()).limit(limit + 1)
    if after is not None:
        seq = db.execute(sa.select(sweeps.c.seq).where(sweeps.c.id == after)).scalar()
        if seq is None:
            raise NotFound(f"no sweep {after}")
        query = query.where(sweeps.c.seq < seq)
    for tag in tags:
        query = query.where(sa.exists().where(sweep_tags.c.sweep_seq == sweeps.c.seq, sweep_tags.c.tag == tag))
    if text:
        columns = sweeps.c.name, sweeps.c.model, sweeps.c.id
        query = query.where(sa.or_(*(column.icontains(text, autoescape=True) for column in columns)))
    rows = db.execute(query).mappings().all()
    return Page(data=tuple(sweep_records(db, rows[:limit])), has_more=len(rows) > limit)


def first_reasons(db: sa.Connection, sweep_ids: Sequence[str]) -> dict[str, str]:
    """Return the error of each sweep's first failing cell. One statement; it reads a sweep's cells up to that one."""
    query = sa.select(sweeps.c.id, _FIRST_REASON).where(sweeps.c.id.in_(sweep_ids), NOT_DELETED)
    return {sweep_id: reason for sweep_id, reason in db.execute(query) if reason is not None}


def sweep_files(db: sa.Connection, sweep_ids: Sequence[str]) -> dict[str, SweepFilesState]:
    """Return the current files of sweeps by id, of deleted ones too; unknown ids are left out."""
    states: dict[str, SweepFilesState] = {}
    columns = sweeps.c.id, sweeps.c.files, sweeps.c.finalizer_epoch, sweeps.c.finalizer
    for chunk in chunks(sweep_ids):
        for sweep_id, files, epoch, finalizer in db.execute(sa.select(*columns).where(sweeps.c.id.in_(chunk))):
            current = files and SweepFiles(**files)
            states[sweep_id] = SweepFilesState(files=current, epoch=epoch, leased=finalizer is not None)
    return states


def cell_files(db: sa.Connection, cell_ids: Sequence[str]) -> dict[str, CellFileState]:
    """Return the current files of cells by id; unknown ids are left out."""
    states: dict[str, CellFileState] = {}
    for chunk in chunks(cell_ids):
        query = sa.select(cells.c.id, cells.c.file, cells.c.epoch, cells.c.state).where(cells.c.id.in_(chunk))
        for cell_id, file, epoch, state in db.execute(query):
            states[cell_id] = CellFileState(file=file, epoch=epoch, leased=state == CellState.LEASED)
    return states


def link_cells(db: sa.Connection, seq: int, new_cells: Sequence[Cell], *, first: int) -> None:
    """Link cells to a sweep at consecutive positions from `first`."""
    links = (
        {"sweep_seq": seq, "position": position, "cell_id": cell.id}
        for position, cell in enumerate(new_cells, start=first)
    )
    insert(db, sweep_cells, links)


def held_cells(transaction: Transaction, leases: Sequence[Lease]) -> tuple[list[CellStateMachine], list[Lease]]:
    """Return the cells whose lease is current, and the leases that are lost."""
    cells_by_id = {cell.cell.id: cell for cell in transaction.cells_by_id([lease.cell.id for lease in leases])}
    held, lost = list[CellStateMachine](), list[Lease]()
    for lease in leases:
        cell = cells_by_id.get(lease.cell.id)
        if cell is not None and cell.is_held_under(lease):
            held.append(cell)
        else:
            lost.append(lease)
    return held, lost


def queued_sweeps(db: sa.Connection, models: Sequence[str]) -> list[QueuedSweep]:
    """Return the active sweeps; those with cells to lease on one of the models are `pending`."""
    column = sweeps.c
    pending = sa.and_(
        column.state == SweepState.IN_PROGRESS,
        column.model.in_(models),
        column.total > column.completed + column.failed + column.leased,
    ).label("pending")
    query = sa.select(column.seq, column.owner, column.priority, column.leased, column.served_at, pending).where(
        column.state.in_(SWEEP_ACTIVE)
    )
    return [
        QueuedSweep(seq=seq, owner=owner, priority=priority, running=leased, served_at=served_at, pending=pending)
        for seq, owner, priority, leased, served_at, pending in db.execute(query)
    ]


def quarantined_cells(db: sa.Connection, models: Sequence[str], limit: int) -> dict[str, str]:
    """Return pending quarantined cells, which must run exclusively, and the name of the model of each.

    If sweeps have different names for the model of a cell, it is that of the first sweep.
    """
    if not limit:
        return {}
    wanted = sa.and_(sweeps.c.state == SweepState.IN_PROGRESS, sweeps.c.model.in_(models))
    needed = sa.select(sweep_cells.c.cell_id).join(sweeps).where(wanted)
    quarantined = sa.and_(cells.c.state == CellState.PENDING, cells.c.suspect.is_(True))
    query = sa.select(cells.c.id).where(quarantined, cells.c.id.in_(needed)).order_by(cells.c.id).limit(limit)
    ids = list(db.execute(query).scalars())
    names = sa.select(sweep_cells.c.cell_id, sweeps.c.model).join(sweeps).where(sweep_cells.c.cell_id.in_(ids), wanted)
    first_names = {row.cell_id: row.model for row in db.execute(names.order_by(sweeps.c.seq.desc()))}
    return {cell_id: first_names[cell_id] for cell_id in ids}


def collect_stats(db: sa.Connection) -> StoreStats:
    """Count sweeps, cells and leases. An index covers the count of cells by state."""
    column = sweeps.c
    waiting = sa.and_(
        column.state == SweepState.IN_PROGRESS, column.total > column.completed + column.failed + column.leased
    )
    served = sa.case((column.served_at > column.created_at, column.served_at), else_=column.created_at)
    oldest, unserved = db.execute(sa.select(sa.func.min(column.created_at), sa.func.min(served)).where(waiting)).one()
    total, reused = db.execute(sa.select(sa.func.sum(column.total), sa.func.sum(column.reused))).one()
    leased = cells.c.state == CellState.LEASED
    return StoreStats(
        sweeps=_count_by_key(db, sa.select(column.state, sa.func.count()).where(NOT_DELETED).group_by(column.state)),
        cells=_count_by_key(db, sa.select(cells.c.state, sa.func.count()).group_by(cells.c.state)),
        leases=_count_by_key(db, sa.select(cells.c.owner, sa.func.count()).where(leased).group_by(cells.c.owner)),
        cells_asked=int(total or 0),
        cells_reused=int(reused or 0),
        oldest_waiting=oldest,
        longest_unserved=unserved,
    )


def _count_by_key(db: sa.Connection, query: sa.Select[Any]) -> dict[str, int]:
    return {row[0]: row[1] for row in db.execute(query)}
