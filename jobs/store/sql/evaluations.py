"""The evaluations of sweeps in the SQL store: requests, leases and values.

An evaluation is leased work, as cells and finalizing sweeps are: at most one server computes it at a time, another
server takes it over once the lease has expired, and a write under an older epoch changes nothing. It can be leased
while its sweep has results. It ends as `cancelled` with its sweep, and is deleted when the results expire.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from ampsweep.errors import Conflict, NotFound, Unavailable
from jobs.clock import Clock
from jobs.evaluation.records import (
    REPEATABLE,
    UNFINISHED,
    EvaluationLease,
    EvaluationRecord,
    EvaluationState,
)
from jobs.evaluation.request import EvaluationRequest
from jobs.store.lease_time import is_over, over
from jobs.store.records import SweepRecord
from jobs.store.sql.database import Database
from jobs.store.sql.rows import Row
from jobs.store.sql.tables import evaluations, sweeps
from jobs.store.sql.transaction import chunks
from jobs.store.transitions import SweepState

MAX_UNFINISHED = 32
"""Evaluations that are queued or in progress, over all servers."""
MAX_EXPIRATIONS = 3
"""How many times the lease of an evaluation may expire before the evaluation is failed."""
KILLED = "the server that ran the evaluation ended during it, {count} times; send the request again to retry"

_COLUMN = evaluations.c
_EVALUATIONS = sa.select(evaluations, sweeps.c.id.label("sweep_id"), sweeps.c.state.label("sweep_state")).join(
    sweeps, sweeps.c.seq == _COLUMN.sweep_seq
)
_IS_UNFINISHED = sa.and_(_COLUMN.state.in_(sorted(UNFINISHED)), sweeps.c.state != SweepState.CANCELLED)


class Evaluations:
    """The evaluations in a database. Methods may block; all raise Unavailable while it cannot be reached."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def submit(self, sweep: SweepRecord, request: EvaluationRequest) -> EvaluationRecord:
        """Queue an evaluation unless it is unfinished or completed; return it.

        Raises:
            Conflict: The sweep has no results.
            Unavailable: Too many evaluations are unfinished.
        """
        evaluation_id, samples = _id_of(sweep, request)
        with self._database.writing() as db:
            row = db.execute(_EVALUATIONS.where(_COLUMN.id == evaluation_id)).mappings().first()
            if row is not None and self._record(row).state not in REPEATABLE:
                return self._record(row)
            count = sa.select(sa.func.count()).select_from(evaluations).join(sweeps).where(_IS_UNFINISHED)
            unfinished = db.execute(count).scalar_one()
            if unfinished >= MAX_UNFINISHED:
                raise Unavailable(f"{MAX_UNFINISHED} evaluations are in progress; retry when one of them has ended")
            values: dict[str, Any] = {
                "state": EvaluationState.QUEUED,
                "created_at": self._clock.now(),
                "expirations": 0,
                **dict.fromkeys(("owner", "available_at", "started_at", "ended_at", "error", "groups", "left_out")),
            }
            if row is not None:
                db.execute(sa.update(evaluations).where(_COLUMN.id == evaluation_id).values(**values))
            else:
                seq = db.execute(sa.select(sweeps.c.seq).where(sweeps.c.id == sweep.id)).scalar_one()
                judge = None if request.judge is None else request.judge.model
                identity = {"id": evaluation_id, "sweep_seq": seq, "samples": samples, "request": request.to_dict()}
                db.execute(sa.insert(evaluations).values(**identity, judge=judge, epoch=0, **values))
        return self.get(sweep.id, evaluation_id)

    def find(self, sweep: SweepRecord, request: EvaluationRequest) -> EvaluationRecord | None:
        """Return the evaluation of a request; None if it was never requested.

        Raises:
            Conflict: The sweep has no results.
        """
        evaluation_id, _ = _id_of(sweep, request)
        return next(iter(self._select(_COLUMN.id == evaluation_id)), None)

    def get(self, sweep_id: str, evaluation_id: str) -> EvaluationRecord:
        """Return an evaluation; raise NotFound if the sweep has none with this id."""
        for record in self._select(_COLUMN.id == evaluation_id, sweeps.c.id == sweep_id):
            return record
        raise NotFound(f"sweep {sweep_id} has no evaluation {evaluation_id}")

    def of_sweep(self, sweep_id: str) -> list[EvaluationRecord]:
        """Return the evaluations of a sweep, oldest first."""
        return self._select(sweeps.c.id == sweep_id)

    def of_sweeps(self, sweep_ids: Sequence[str]) -> Mapping[str, list[EvaluationRecord]]:
        """Return the evaluations of each sweep; unknown ids are left out."""
        records: dict[str, list[EvaluationRecord]] = {}
        for chunk in chunks(sweep_ids):
            with self._database.reading() as db:
                existing = db.execute(sa.select(sweeps.c.id).where(sweeps.c.id.in_(chunk))).scalars()
                records |= {sweep_id: [] for sweep_id in existing}
            for record in self._select(sweeps.c.id.in_(chunk)):
                records[record.sweep_id].append(record)
        return records

    def lease(self, owner: str, *, models: Sequence[str], ttl: float) -> EvaluationLease | None:
        """Lease the oldest evaluation that waits for a server; return None if there is none.

        An evaluation whose lease has expired too often is failed.

        Args:
            owner: The holder of the lease.
            models: The models that can be judges; an evaluation by another judge is left to other servers.
            ttl: Duration of the lease in seconds.
        """
        available = sa.and_(
            _IS_UNFINISHED,
            over(_COLUMN.available_at, self._clock.now()),
            sa.or_(_COLUMN.judge.is_(None), _COLUMN.judge.in_(models)),
            sweeps.c.files.is_not(None),
        )
        with self._database.reading() as db:
            if db.execute(_EVALUATIONS.where(available).limit(1)).first() is None:
                return None
        with self._database.writing() as db:
            now = self._clock.now()
            for row in db.execute(_EVALUATIONS.where(available).order_by(*_OLDEST_FIRST)).mappings().all():
                expirations = row["expirations"] + (row["owner"] is not None)
                if expirations >= MAX_EXPIRATIONS:
                    self._write(db, row, expirations=expirations, **_end(now, error=KILLED.format(count=expirations)))
                    continue
                self._write(
                    db,
                    row,
                    state=EvaluationState.IN_PROGRESS,
                    owner=owner,
                    epoch=row["epoch"] + 1,
                    available_at=now + ttl,
                    expirations=expirations,
                    started_at=now,
                    error=None,
                )
                leased = db.execute(_EVALUATIONS.where(_COLUMN.id == row["id"])).mappings().one()
                return EvaluationLease(evaluation=self._record(leased), owner=owner)
        return None

    def extend(self, leases: Sequence[EvaluationLease], *, ttl: float) -> list[EvaluationLease]:
        """Make leases end `ttl` seconds from now; return those that are lost.

        A lease is also lost if the sweep has no results any more. The evaluation is then queued again: it is leased
        once the results are assembled anew, and never if the sweep is cancelled.
        """
        lost: list[EvaluationLease] = []
        with self._database.writing() as db:
            for lease in leases:
                row = self._held(db, lease)
                if row is not None and row["has_results"]:
                    self._write(db, row, available_at=self._clock.now() + ttl)
                    continue
                lost.append(lease)
                if row is not None:
                    self._write(db, row, state=EvaluationState.QUEUED, owner=None, available_at=None)
        return lost

    def release(self, lease: EvaluationLease, *, error: str | None = None, delay: float = 0.0) -> bool:
        """Queue a leased evaluation again, which can be leased after `delay` seconds; return False if it is lost."""
        available_at = self._clock.now() + delay
        return self._change(lease, state=EvaluationState.QUEUED, owner=None, available_at=available_at, error=error)

    def complete(self, lease: EvaluationLease, groups: Sequence[Mapping[str, Any]], *, left_out: int) -> bool:
        """Complete a leased evaluation whose scores are published under the lease; return False if it is lost."""
        return self._change(lease, groups=list(groups), left_out=left_out, **_end(self._clock.now(), error=None))

    def fail(self, lease: EvaluationLease, error: str) -> bool:
        """Fail a leased evaluation; return False if the lease is lost."""
        return self._change(lease, **_end(self._clock.now(), error=error))

    def expire_leases(self) -> None:
        """End all leases, because the processes that held them are gone."""
        with self._database.writing() as db:
            leased = sa.update(evaluations).where(_COLUMN.owner.is_not(None))
            db.execute(leased.values(available_at=self._clock.now()))

    def delete_expired(self) -> int:
        """Delete the evaluations of sweeps whose results have expired; return how many there were."""
        expired = sa.select(sweeps.c.seq).where(sweeps.c.expired_at.is_not(None))
        of_expired = _COLUMN.sweep_seq.in_(expired)
        with self._database.reading() as db:
            if db.execute(sa.select(_COLUMN.id).where(of_expired).limit(1)).first() is None:
                return 0
        with self._database.writing() as db:
            return db.execute(sa.delete(evaluations).where(of_expired)).rowcount

    def _select(self, *conditions: sa.ColumnElement[bool]) -> list[EvaluationRecord]:
        with self._database.reading() as db:
            rows = db.execute(_EVALUATIONS.where(*conditions).order_by(*_OLDEST_FIRST)).mappings().all()
        return [self._record(row) for row in rows]

    def _change(self, lease: EvaluationLease, **values: Any) -> bool:
        with self._database.writing() as db:
            row = self._held(db, lease)
            if row is not None:
                self._write(db, row, **values)
        return row is not None

    def _held(self, db: sa.Connection, lease: EvaluationLease) -> Row | None:
        """Return the row of an evaluation with `has_results`; None if the lease is not the current one."""
        evaluation_id, epoch = lease.key
        has_results = sweeps.c.files.is_not(None).label("has_results")
        query = _EVALUATIONS.add_columns(has_results).where(_COLUMN.id == evaluation_id, _COLUMN.epoch == epoch)
        return db.execute(query.where(_COLUMN.state == EvaluationState.IN_PROGRESS)).mappings().first()

    def _write(self, db: sa.Connection, row: Row, **values: Any) -> None:
        db.execute(sa.update(evaluations).where(_COLUMN.id == row["id"]).values(**values))

    def _record(self, row: Row) -> EvaluationRecord:
        state = EvaluationState(row["state"])
        if state in UNFINISHED:
            if row["sweep_state"] == SweepState.CANCELLED:
                state = EvaluationState.CANCELLED
            elif row["owner"] is None or is_over(row["available_at"], self._clock.now()):
                state = EvaluationState.QUEUED
        return EvaluationRecord(
            id=row["id"],
            sweep_id=row["sweep_id"],
            samples=row["samples"],
            request=row["request"],
            state=state,
            epoch=row["epoch"],
            created_at=row["created_at"],
            started_at=row["started_at"],
            ended_at=row["ended_at"],
            groups=row["groups"],
            left_out=row["left_out"],
            error=row["error"],
        )


_OLDEST_FIRST = _COLUMN.created_at, _COLUMN.id


def _id_of(sweep: SweepRecord, request: EvaluationRequest) -> tuple[str, str]:
    """Return the id of an evaluation, and the hash of the samples that it evaluates."""
    if sweep.files is None:
        raise Conflict(f"sweep {sweep.id} has no results")
    return request.id(sweep.files.samples), sweep.files.samples


def _end(now: float, *, error: str | None) -> dict[str, Any]:
    """Return the columns of an evaluation that has ended."""
    state = EvaluationState.COMPLETED if error is None else EvaluationState.FAILED
    return {"state": state, "owner": None, "available_at": None, "ended_at": now, "error": error}
