"""What the store removes: expired results, the events of cells, and deleted sweeps.

All methods of `Removal` use many short transactions, so that other writers do not wait long. What marks a sweep as done
is written last, so the next call continues an interrupted one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import sqlalchemy as sa

from ampsweep.errors import Conflict
from jobs.clock import Clock
from jobs.store.sql.database import Database
from jobs.store.sql.queries import sweep_row
from jobs.store.sql.tables import cells, events, sweep_cells, sweep_tags, sweeps
from jobs.store.sql.transaction import CHUNK, Transaction, write_transaction
from jobs.store.transitions import SWEEP_ENDED, SweepState

T = TypeVar("T")

RESET_CHUNK = 500
"""Maximum number of cells that one transaction resets."""
_START = -1
"""The position before that of a sweep's first cell."""
_HAS_ENDED = sweeps.c.state.in_(SWEEP_ENDED)
_BLANK: dict[str, Any] = {
    "name": "",
    "owner": "",
    "spec": {},
    "warnings": [],
    **dict.fromkeys(("idempotency_key", "error", "files")),
}
"""The columns of a deleted sweep that held what its user wrote, or that named its files."""


def mark_deleted(db: sa.Connection, sweep_id: str, now: float) -> None:
    """Mark an ended sweep as deleted, from when on it cannot be found; raise Conflict if it has not ended."""
    row = sweep_row(db, sweep_id)
    state = SweepState(row["state"])
    if state not in SWEEP_ENDED:
        can_be_cancelled = state not in (SweepState.FINALIZING, SweepState.CANCELLING)
        remedy = "cancel it first, and delete it" if can_be_cancelled else "delete it"
        raise Conflict(f"sweep {sweep_id} is {state.value}; {remedy} once it has ended")
    expired_at = now if row["expired_at"] is None else row["expired_at"]
    db.execute(sa.delete(sweep_tags).where(sweep_tags.c.sweep_seq == row["seq"]))
    marked = sa.update(sweeps).where(sweeps.c.seq == row["seq"])
    db.execute(marked.values(deleted_at=now, expired_at=expired_at, **_BLANK))


class Removal:
    """Removes from a database what `jobs.store.protocol.Store` promises."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def expire_results(self, before: float) -> Sequence[str]:
        """See the protocol."""
        is_due = sa.and_(_HAS_ENDED, sweeps.c.expired_at.is_(None), sweeps.c.ended_at < before)
        query = sa.select(sweeps.c.seq, sweeps.c.id).where(is_due).order_by(sweeps.c.seq).limit(CHUNK)
        with self._database.reading() as db:
            due = db.execute(query).all()

        def expire(seq: int, transaction: Transaction) -> bool:
            expired = sa.update(sweeps).where(is_due, sweeps.c.seq == seq)
            return transaction.db.execute(expired.values(expired_at=transaction.now, files=None)).rowcount > 0

        return [sweep_id for seq, sweep_id in due if self._reset_cells(seq, is_due, expire)]

    def prune_events(self, before: float) -> int:
        """See the protocol."""
        is_due = sa.and_(_HAS_ENDED, sweeps.c.ended_at < before)
        of_cells = events.c.type.startswith("cell.")
        with self._database.reading() as db:
            with_events = sa.exists().where(events.c.sweep_seq == sweeps.c.seq, of_cells)
            seqs = db.execute(sa.select(sweeps.c.seq).where(is_due, with_events)).scalars().all()
        pruned = 0
        for seq in seqs:
            still_due = sa.select(sweeps.c.seq).where(is_due, sweeps.c.seq == seq)
            condition = sa.and_(events.c.sweep_seq.in_(still_due), of_cells)
            pruned += self._delete_rows(events, events.c.id, condition, seq=seq)
        return pruned

    def erase_deleted(self) -> int:
        """See the protocol. The links to the cells go last: they show that a sweep is not yet erased."""
        is_linked = sa.exists().where(sweep_cells.c.sweep_seq == sweeps.c.seq)
        query = sa.select(sweeps.c.seq).where(sweeps.c.deleted_at.is_not(None), is_linked).order_by(sweeps.c.seq)
        with self._database.reading() as db:
            seqs = db.execute(query).scalars().all()
        for seq in seqs:
            self._reset_cells(seq, sa.true(), lambda _seq, _transaction: None)
            self._delete_rows(events, events.c.id, events.c.sweep_seq == seq, seq=seq)
            self._delete_rows(sweep_cells, sweep_cells.c.position, sweep_cells.c.sweep_seq == seq, seq=seq)
        return len(seqs)

    def _reset_cells(self, seq: int, is_due: sa.ColumnElement[bool], last: Callable[[int, Transaction], T]) -> T:
        """Reset the cells with files that no sweep needs but this one; return the result of `last`.

        Args:
            seq: The sweep.
            is_due: A condition on the sweep; while it does not meet it, no cell is reset.
            last: Called in the transaction that finds no further cell, so that a crash before it changes nothing.
        """
        unneeded, after = _unneeded_cells(seq, is_due), _START
        while True:
            with write_transaction(self._database, self._clock) as transaction:
                chunk = transaction.db.execute(unneeded, {"after": after}).all()
                transaction.move(transaction.cells_by_id([row.id for row in chunk]), lambda cell: cell.reset(None))
                if len(chunk) == RESET_CHUNK:
                    after = chunk[-1].position
                elif after != _START:
                    after = _START  # once more: another sweep that needed a cell may have been removed meanwhile
                else:
                    return last(seq, transaction)

    def _delete_rows(self, table: sa.Table, key: sa.Column[Any], condition: sa.ColumnElement[bool], *, seq: int) -> int:
        """Delete the rows of a sweep that meet a condition; return how many there were.

        Args:
            table: A table with the column `sweep_seq`.
            key: The column that distinguishes the rows of a sweep.
            condition: The condition.
            seq: The sweep.
        """
        chunk = sa.select(key).where(condition).limit(CHUNK)
        total, deleted = 0, CHUNK
        while deleted == CHUNK:
            with self._database.writing() as db:
                deleted = db.execute(sa.delete(table).where(table.c.sweep_seq == seq, key.in_(chunk))).rowcount
            total += deleted
        return total


def _unneeded_cells(seq: int, is_due: sa.ColumnElement[bool]) -> sa.Select[tuple[int, str]]:
    """Return a query for the cells with files that no unexpired sweep needs but one, in the order of its plan.

    It continues after the position `after`, so that a sweep's cells are searched once, however many chunks they make.
    """
    other_links, others = sweep_cells.alias(), sweeps.alias()
    is_needed = sa.exists().where(
        other_links.c.cell_id == cells.c.id,
        others.c.seq == other_links.c.sweep_seq,
        others.c.seq != seq,
        others.c.expired_at.is_(None),
    )
    return (
        sa.select(sweep_cells.c.position, cells.c.id)
        .join_from(sweeps, sweep_cells)
        .join(cells)
        .where(
            sweeps.c.seq == seq,
            is_due,
            sweep_cells.c.position > sa.bindparam("after", type_=sa.Integer),
            cells.c.file.is_not(None),
            ~is_needed,
        )
        .order_by(sweep_cells.c.position)
        .limit(RESET_CHUNK)
    )
