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
from jobs.store.database import Database
from jobs.store.queries import sweep_row
from jobs.store.tables import cells, events, sweep_cells, sweep_tags, sweeps
from jobs.store.transaction import CHUNK, Transaction, write_transaction
from jobs.store.transitions import SWEEP_ENDED, SweepState

T = TypeVar("T")

RESET_CHUNK = 500
"""Maximum number of cells that one transaction resets."""
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

        def expire(sweep: sa.ColumnElement[bool], transaction: Transaction) -> bool:
            expired = sa.update(sweeps).where(sweep).values(expired_at=transaction.now, files=None)
            return transaction.db.execute(expired).rowcount > 0

        return [sweep_id for seq, sweep_id in due if self._reset_cells(sa.and_(is_due, sweeps.c.seq == seq), expire)]

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
            self._reset_cells(sweeps.c.seq == seq, lambda _sweep, _transaction: None)
            self._delete_rows(events, events.c.id, events.c.sweep_seq == seq, seq=seq)
            self._delete_rows(sweep_cells, sweep_cells.c.position, sweep_cells.c.sweep_seq == seq, seq=seq)
        return len(seqs)

    def _reset_cells(
        self, sweep: sa.ColumnElement[bool], last: Callable[[sa.ColumnElement[bool], Transaction], T]
    ) -> T:
        """Reset the cells with files that no sweep needs but this one; return the result of `last`.

        Args:
            sweep: The condition that only this sweep meets.
            last: Called in the transaction of the last chunk of cells, so that a crash before it changes nothing.
        """
        links = sa.select(sweep_cells.c.cell_id).join(sweeps).where(sweep_cells.c.cell_id == cells.c.id)
        needed = links.where(sweeps.c.expired_at.is_(None), sa.not_(sweep)).exists()
        unneeded = sa.and_(cells.c.file.is_not(None), links.where(sweep).exists(), ~needed)
        while True:
            with write_transaction(self._database, self._clock) as transaction:
                chunk = transaction.cells(unneeded, limit=RESET_CHUNK)
                transaction.move(chunk, lambda cell: cell.reset(None))
                if len(chunk) < RESET_CHUNK:
                    return last(sweep, transaction)

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
