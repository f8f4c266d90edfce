"""The batches in the SQL store: their requests, leases and counts.

A batch is leased work, as evaluations are: at most one server runs it at a time, another server takes it over once the
lease has expired, and a write under an older epoch changes nothing. Users take turns, and so do the batches of a user.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from ampsweep.errors import Conflict, NotFound, TooManyBatches, Unavailable
from jobs.batches.records import ENDED, BatchLease, BatchRecord, BatchState, RowCounts
from jobs.clock import Clock
from jobs.store.lease_time import over
from jobs.store.records import Page
from jobs.store.sql.database import Database
from jobs.store.sql.files import Files, file_row, insert_file
from jobs.store.sql.rows import Row
from jobs.store.sql.tables import batches

WINDOW = 24 * 3600.0
"""Seconds until requests of a batch that have not been answered are given up."""
MAX_UNFINISHED_PER_OWNER = 64
"""Maximum number of batches of one owner that have not ended, across all servers."""
MAX_UNFINISHED = 1024
"""Maximum number of batches that have not ended, across all servers."""
MAX_EXPIRATIONS = 10
"""How many times the lease of a batch may expire before the batch is failed."""
KILLED = "the server that ran the batch was killed {count} times; create the batch again to retry"

_COLUMN = batches.c
_UNFINISHED = _COLUMN.state.not_in(sorted(ENDED))


class Batches:
    """The batches in a database. Methods may block; all raise Unavailable while it cannot be reached.

    Attributes:
        files: The uploaded files, and the output of batches.
    """

    def __init__(self, database: Database, clock: Clock, new_id: Callable[[str], str]) -> None:
        self.files = Files(database, clock, new_id)
        self._database = database
        self._clock = clock
        self._new_id = new_id

    def create(
        self,
        *,
        owner: str,
        endpoint: str,
        input_file_id: str,
        total: int,
        metadata: Mapping[str, str] | None = None,
        output_expires_after: float | None = None,
    ) -> BatchRecord:
        """Queue a batch of the `total` requests in a file.

        Raises:
            NotFound: The file does not exist.
            TooManyBatches: Too many batches of the owner have not ended.
            Unavailable: Too many batches of all owners have not ended.
        """
        batch_id, now = self._new_id("batch"), self._clock.now()
        with self._database.writing() as db:
            file_row(db, input_file_id)
            _require_room(db, owner)
            db.execute(
                sa.insert(batches).values(
                    id=batch_id,
                    owner=owner,
                    endpoint=endpoint,
                    input_file_id=input_file_id,
                    metadata=None if metadata is None else dict(metadata),
                    state=BatchState.VALIDATING,
                    epoch=0,
                    expirations=0,
                    created_at=now,
                    expires_at=now + WINDOW,
                    times={},
                    total=total,
                    completed=0,
                    failed=0,
                    output_expires_after=output_expires_after,
                )
            )
        return self.get(batch_id)

    def get(self, batch_id: str) -> BatchRecord:
        """Return a batch; raise NotFound if none has this id."""
        with self._database.reading() as db:
            return _record(_row(db, batch_id))

    def list(self, *, after: str | None = None, limit: int = 20) -> Page[BatchRecord]:
        """Return a page of batches, newest first; raise NotFound if `after` is not a batch."""
        with self._database.reading() as db:
            query = sa.select(batches).order_by(_COLUMN.seq.desc()).limit(limit + 1)
            if after is not None:
                query = query.where(_COLUMN.seq < _row(db, after)["seq"])
            rows = db.execute(query).mappings().all()
        return Page(data=tuple(map(_record, rows[:limit])), has_more=len(rows) > limit)

    def cancel(self, batch_id: str) -> BatchRecord:
        """Cancel a batch. It is `cancelled` once a server has published the results so far.

        Raises:
            NotFound: None has this id.
            Conflict: It has ended, or its results are being assembled.
        """
        with self._database.writing() as db:
            row = _row(db, batch_id)
            if row["state"] in ENDED or row["state"] == BatchState.FINALIZING:
                raise Conflict(f"batch {batch_id} is {row['state']} and cannot be cancelled")
            if row["state"] != BatchState.CANCELLING:
                self._write(db, row, state=BatchState.CANCELLING)
        return self.get(batch_id)

    def lease(self, leaseholder: str, *, ttl: float, per_owner: int) -> BatchLease | None:
        """Lease a batch that waits for a server; return None if there is none.

        The owner with the fewest leased batches comes first, then the one that has waited longest. Of the batches of
        one owner, the oldest that has never been leased comes first, then the one whose last lease is longest ago. A
        batch whose lease has expired too often is failed.

        Args:
            leaseholder: The holder of the lease.
            ttl: Duration of the lease in seconds.
            per_owner: Maximum number of batches of one owner that the leaseholder has leased at the same time.
        """
        now = self._clock.now()
        available = sa.select(batches).where(_UNFINISHED, over(_COLUMN.available_at, now))
        with self._database.reading() as db:
            if db.execute(available.limit(1)).first() is None:
                return None
        with self._database.writing() as db:
            rows = db.execute(available).mappings().all()
            for row in _in_turn(db, rows, leaseholder, now=now, per_owner=per_owner):
                expirations = row["expirations"] + (row["leaseholder"] is not None)
                if expirations >= MAX_EXPIRATIONS:
                    failed = {"error": KILLED.format(count=expirations), "expirations": expirations}
                    self._write(db, row, state=BatchState.FAILED, **_ENDED, **failed)
                    continue
                started = BatchState.CANCELLING if row["state"] == BatchState.CANCELLING else BatchState.IN_PROGRESS
                lease = {"leaseholder": leaseholder, "epoch": row["epoch"] + 1, "available_at": now + ttl}
                self._write(db, row, state=started, expirations=expirations, error=None, leased_at=now, **lease)
                return BatchLease(batch=_record(_row(db, row["id"])), owner=leaseholder)
        return None

    def extend(self, leases: Sequence[BatchLease], *, ttl: float) -> Mapping[tuple[str, int], BatchState | None]:
        """Make leases end `ttl` seconds from now; return the current state of each batch, None if the lease is lost."""
        states: dict[tuple[str, int], BatchState | None] = {}
        with self._database.writing() as db:
            for lease in leases:
                row = self._held(db, lease)
                states[lease.key] = None if row is None else BatchState(row["state"])
                if row is not None:
                    self._write(db, row, available_at=self._clock.now() + ttl)
        return states

    def report(self, lease: BatchLease, *, completed: int, failed: int) -> None:
        """Store how many requests of a leased batch have been answered."""
        with self._database.writing() as db:
            if (row := self._held(db, lease)) is not None:
                self._write(db, row, completed=completed, failed=failed)

    def finalize(self, lease: BatchLease) -> bool:
        """Record that the results of a leased batch are being assembled; return False if it is cancelled or lost."""
        with self._database.writing() as db:
            row = self._held(db, lease)
            if row is None or row["state"] == BatchState.CANCELLING:
                return False
            self._write(db, row, state=BatchState.FINALIZING)
        return True

    def release(self, lease: BatchLease, *, error: str | None = None, delay: float = 0.0) -> None:
        """Return the lease of a batch, which can be leased again after `delay` seconds; record why in `error`."""
        with self._database.writing() as db:
            if (row := self._held(db, lease)) is not None:
                cancelling = row["state"] == BatchState.CANCELLING
                state = BatchState.CANCELLING if cancelling else BatchState.VALIDATING
                again = {"leaseholder": None, "available_at": self._clock.now() + delay}
                self._write(db, row, state=state, error=error, **again)

    def finish(
        self,
        lease: BatchLease,
        state: BatchState,
        *,
        counts: RowCounts,
        output: tuple[str, int],
        errors: tuple[str, int],
    ) -> bool:
        """End a leased batch, and add the files of its results; return False if the lease is lost.

        Args:
            lease: The lease.
            state: The state in which it ends.
            counts: How many requests were answered, and how many failed.
            output: Id and size of the published file of answers. A size of 0 means that there is none.
            errors: Id and size of the published file of errors. A size of 0 means that there is none.
        """
        batch = lease.batch
        with self._database.writing() as db:
            row = self._held(db, lease)
            if row is None:
                return False
            for kind, (file_id, size) in (("output", output), ("error", errors)):
                if size:
                    insert_file(
                        db,
                        file_id,
                        owner=batch.owner,
                        filename=f"{batch.id}_{kind}.jsonl",
                        purpose="batch_output",
                        size=size,
                        now=self._clock.now(),
                        expires_after=batch.output_expires_after,
                    )
            ids = {
                "output_file_id": output[0] if output[1] else None,
                "error_file_id": errors[0] if errors[1] else None,
            }
            answered = {"completed": counts.completed, "failed": counts.failed}
            self._write(db, row, state=state, error=None, **_ENDED, **ids, **answered)
        return True

    def fail(self, lease: BatchLease, error: str) -> None:
        """Fail a leased batch."""
        with self._database.writing() as db:
            if (row := self._held(db, lease)) is not None:
                self._write(db, row, state=BatchState.FAILED, error=error, **_ENDED)

    def expire_leases(self) -> None:
        """End all leases, because the processes that held them are gone."""
        with self._database.writing() as db:
            leased = sa.update(batches).where(_COLUMN.leaseholder.is_not(None))
            db.execute(leased.values(available_at=self._clock.now()))

    def delete_ended(self, *, created_before: float) -> int:
        """Delete the batches that were created before a time and have ended; return how many there were."""
        due = _COLUMN.state.in_(sorted(ENDED)), _COLUMN.created_at < created_before
        with self._database.reading() as db:
            if db.execute(sa.select(_COLUMN.id).where(*due).limit(1)).first() is None:
                return 0
        with self._database.writing() as db:
            return db.execute(sa.delete(batches).where(*due)).rowcount

    def unfinished(self) -> frozenset[str]:
        """Return the ids of the batches that have not ended."""
        with self._database.reading() as db:
            return frozenset(db.execute(sa.select(_COLUMN.id).where(_UNFINISHED)).scalars())

    def _held(self, db: sa.Connection, lease: BatchLease) -> Row | None:
        """Return the row of a batch; None if the lease is not the current one."""
        batch_id, epoch = lease.key
        query = sa.select(batches).where(_COLUMN.id == batch_id, _COLUMN.epoch == epoch, _UNFINISHED)
        return db.execute(query.where(_COLUMN.leaseholder.is_not(None))).mappings().first()

    def _write(self, db: sa.Connection, row: Row, **values: Any) -> None:
        """Write columns; a new state is noted with its time."""
        state = values.get("state", row["state"])
        if state != row["state"] and state != BatchState.VALIDATING:
            values["times"] = {**row["times"], f"{BatchState(state).value}_at": self._clock.now()}
        db.execute(sa.update(batches).where(_COLUMN.id == row["id"]).values(**values))


_ENDED: dict[str, Any] = {"leaseholder": None, "available_at": None}


def _require_room(db: sa.Connection, owner: str) -> None:
    """Raise an error if an owner, or all of them together, have too many batches that have not ended."""
    of_owner = sa.func.count().filter(_COLUMN.owner == owner)
    own, total = db.execute(sa.select(of_owner, sa.func.count()).select_from(batches).where(_UNFINISHED)).one()
    if own >= MAX_UNFINISHED_PER_OWNER:
        message = f"{own} of your batches have not ended, and {MAX_UNFINISHED_PER_OWNER} is the maximum"
        raise TooManyBatches(f"{message}; retry when one of them has ended, or cancel one")
    if total >= MAX_UNFINISHED:
        raise Unavailable(f"{total} batches have not ended, the maximum; retry when one of them has ended")


def _in_turn(db: sa.Connection, rows: Sequence[Row], leaseholder: str, *, now: float, per_owner: int) -> Iterator[Row]:
    """Yield batches in the order in which they are leased.

    Those of owners that have enough are left out, except for cancelled ones, which have nothing left to run.
    """
    leased = sa.and_(_UNFINISHED, _COLUMN.leaseholder.is_not(None), sa.not_(over(_COLUMN.available_at, now)))
    count = sa.func.count().filter
    totals = sa.select(
        _COLUMN.owner,
        count(leased).label("all"),
        count(leased, _COLUMN.leaseholder == leaseholder).label("own"),
        sa.func.max(_COLUMN.leased_at).label("latest"),
    ).group_by(_COLUMN.owner)
    owners = {total["owner"]: total for total in db.execute(totals).mappings()}

    def turn(row: Row) -> tuple[float, ...]:
        owner = owners[row["owner"]]
        return owner["all"], owner["latest"] or 0.0, row["leased_at"] or 0.0, row["seq"]

    for row in sorted(rows, key=turn):
        if owners[row["owner"]]["own"] < per_owner or row["state"] == BatchState.CANCELLING:
            yield row


def _row(db: sa.Connection, batch_id: str) -> Row:
    row = db.execute(sa.select(batches).where(_COLUMN.id == batch_id)).mappings().first()
    if row is None:
        raise NotFound(f"there is no batch {batch_id}; GET /v1/batches lists them")
    return row


def _record(row: Row) -> BatchRecord:
    counts = RowCounts(total=row["total"], completed=row["completed"], failed=row["failed"])
    same = ("id", "owner", "endpoint", "input_file_id", "epoch", "created_at", "expires_at", "times", "metadata")
    more = ("output_expires_after", "output_file_id", "error_file_id", "error")
    fields = {name: row[name] for name in (*same, *more)}
    return BatchRecord(**fields, state=BatchState(row["state"]), counts=counts)
