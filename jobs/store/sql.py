"""The store in SQLite: durable when a call returns, safe to call from any thread."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import Any

import sqlalchemy as sa

from ampsweep.canonical import canonical_json
from ampsweep.errors import InvalidRequest, NotFound, StaleLease
from jobs.cell import Cell
from jobs.clock import Clock
from jobs.ids import Ids
from jobs.store.database import WRITE, OwnedFile, database_path, open_engine
from jobs.store.ledger import ACTIVE, Ledger
from jobs.store.protocol import MAX_ATTEMPTS
from jobs.store.records import CellFile, CellRecord, Event, Lease, Page, SweepRecord
from jobs.store.rows import Row, cell_record, event_record, lease_of, ledger_columns, ledger_of, sweep_record
from jobs.store.states import CellState, SweepState, cell_may_come_from
from jobs.store.tables import cells, events, sweep_cells, sweeps

Values = Mapping[str, Any]
_NO_LEASE: dict[str, Any] = {"owner": None, "expires_at": None}
_NO_FILE: dict[str, Any] = {"file": None, "rows": None, "sha256": None}
_CHUNK = 1000


class SqlStore:
    """Implements `jobs.store.protocol.Store` on `sqlite:///PATH`; Unavailable where another process has the file."""

    def __init__(self, url: str, clock: Clock, ids: Ids) -> None:
        path = database_path(url)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._owned = OwnedFile(path)
        try:
            self._engine = open_engine(url)
        except BaseException:
            self._owned.release()
            raise
        self._clock = clock
        self._ids = ids
        self._writing = Lock()  # SQLite has one writer; threads queue here, where waiting is fair and has no timeout

    def close(self) -> None:
        """Let go of the database."""
        self._engine.dispose()
        self._owned.release()

    # --- sweeps

    def create_sweep(
        self, *, name: str, spec: Mapping[str, Any], cells: Sequence[Cell], idempotency_key: str | None = None
    ) -> SweepRecord:
        """See the protocol."""
        with self._write() as db:
            if idempotency_key is not None and (row := _first(db, sweeps.c.idempotency_key == idempotency_key)):
                if canonical_json(row["spec"]) != canonical_json(spec):
                    message = "this key was used with another spec; choose a new key for a new sweep"
                    raise InvalidRequest(message, param="Idempotency-Key")
                return sweep_record(row)
            reused = self._store_cells(db, cells)
            now = self._clock.now()
            ledger = Ledger(
                sweep_id=self._ids.new("sweep"),
                state=SweepState.IN_PROGRESS,
                total=len(cells),
                completed=reused,
                failed=0,
                reused=reused,
            )
            ledger.say("sweep.created", now)
            values = {"id": ledger.sweep_id, "name": name, "spec": spec, "idempotency_key": idempotency_key}
            counts = {"total": ledger.total, "reused": reused, "created_at": now, **ledger_columns(ledger)}
            db.execute(sa.insert(sweeps).values(**values, **counts))
            seq = _sweep(db, ledger.sweep_id)["seq"]
            links = [{"sweep_seq": seq, "position": at, "cell_id": cell.id} for at, cell in enumerate(cells)]
            db.execute(sa.insert(sweep_cells), links)
            self._settle(db, seq, ledger, now)
            return sweep_record(_sweep(db, ledger.sweep_id))

    def _store_cells(self, db: sa.Connection, wanted: Sequence[Cell]) -> int:
        """Insert the cells that are new, give failed ones a new chance; return how many are completed."""
        known: dict[str, Row] = {}
        for start in range(0, len(wanted), _CHUNK):
            ids = [cell.id for cell in wanted[start : start + _CHUNK]]
            query = sa.select(cells.c.id, cells.c.state, cells.c.model).where(cells.c.id.in_(ids))
            known |= {row["id"]: row for row in db.execute(query).mappings()}
        if new := [_new_cell(cell) for cell in wanted if cell.id not in known]:
            db.execute(sa.insert(cells), new)
        for cell in wanted:
            if (row := known.get(cell.id)) is None:
                continue
            if row["state"] == CellState.FAILED:
                self._move(db, cell.id, CellState.PENDING, "cell.reset", {"attempts": 0, "error": None})
            if row["model"] != cell.model and row["state"] in (CellState.FAILED, CellState.PENDING):
                renamed = {"model": cell.model, "body": cell.to_dict()}  # the same model under the name it has now
                db.execute(sa.update(cells).where(cells.c.id == cell.id).values(**renamed))
        return sum(row["state"] == CellState.COMPLETED for row in known.values())

    def get_sweep(self, sweep_id: str) -> SweepRecord:
        """See the protocol."""
        with self._engine.connect() as db:
            return sweep_record(_sweep(db, sweep_id))

    def list_sweeps(self, *, after: str | None = None, limit: int = 20) -> Page[SweepRecord]:
        """See the protocol."""
        with self._engine.connect() as db:
            query = sa.select(sweeps).order_by(sweeps.c.seq.desc()).limit(limit + 1)
            if after is not None:
                query = query.where(sweeps.c.seq < _sweep(db, after)["seq"])
            rows = db.execute(query).mappings().all()
        return Page(data=tuple(map(sweep_record, rows[:limit])), has_more=len(rows) > limit)

    def cancel_sweep(self, sweep_id: str) -> SweepRecord:
        """See the protocol."""
        with self._write() as db:
            row = _sweep(db, sweep_id)
            ledger, now = ledger_of(row), self._clock.now()
            ledger.cancel(now)
            self._settle(db, row["seq"], ledger, now)
            return sweep_record(_sweep(db, sweep_id))

    def finalizing(self) -> list[str]:
        """See the protocol."""
        query = sa.select(sweeps.c.id).where(sweeps.c.state == SweepState.FINALIZING).order_by(sweeps.c.seq)
        with self._engine.connect() as db:
            return list(db.execute(query).scalars())

    def finish_sweep(self, sweep_id: str, *, error: str | None = None) -> SweepRecord:
        """See the protocol."""
        with self._write() as db:
            row = _sweep(db, sweep_id)
            ledger = ledger_of(row)
            ledger.finish(error, self._clock.now())
            _save(db, row["seq"], ledger)
            return sweep_record(_sweep(db, sweep_id))

    def events(self, sweep_id: str, *, after: int = 0, limit: int = 1000) -> list[Event]:
        """See the protocol."""
        with self._engine.connect() as db:
            mine = events.c.sweep_seq == _sweep(db, sweep_id)["seq"]
            query = sa.select(events).where(mine, events.c.id > after).order_by(events.c.id).limit(limit)
            return [event_record(row, sweep_id) for row in db.execute(query).mappings()]

    # --- cells

    def list_cells(self, sweep_id: str, *, after: str | None = None, limit: int = 100) -> Page[CellRecord]:
        """See the protocol."""
        with self._engine.connect() as db:
            mine = sweep_cells.c.sweep_seq == _sweep(db, sweep_id)["seq"]
            query = sa.select(cells).join(sweep_cells, sweep_cells.c.cell_id == cells.c.id).where(mine)
            query = query.order_by(sweep_cells.c.position).limit(limit + 1)
            if after is not None:
                at = sa.select(sweep_cells.c.position).where(mine, sweep_cells.c.cell_id == after)
                found = db.execute(at).scalar()
                if found is None:
                    raise NotFound(f"sweep {sweep_id} has no cell {after}", param="after")
                query = query.where(sweep_cells.c.position > found)
            rows = db.execute(query).mappings().all()
        return Page(data=tuple(map(cell_record, rows[:limit])), has_more=len(rows) > limit)

    def lease_cells(self, owner: str, *, models: Sequence[str], limit: int, ttl: float) -> list[Lease]:
        """See the protocol."""
        wanted = (
            sa.select(cells.c.id)
            .select_from(sweeps.join(sweep_cells).join(cells))
            .where(
                sweeps.c.state == SweepState.IN_PROGRESS,
                cells.c.state == CellState.PENDING,
                cells.c.model.in_(models),
            )
            .order_by(sweeps.c.seq, sweep_cells.c.position)
        )
        with self._write() as db:
            chosen: dict[str, None] = {}
            for cell_id in db.execute(wanted).scalars():
                if len(chosen) == limit:
                    break
                chosen[cell_id] = None
            leases: list[Lease] = []
            for cell_id in chosen:
                lease = {"owner": owner, "expires_at": self._clock.now() + ttl}
                counted = {"attempts": cells.c.attempts + 1, "epoch": cells.c.epoch + 1}
                _set_state(db, cell_id, CellState.LEASED, {**lease, **counted})
                leases.append(lease_of(_cell(db, cell_id)))
            return leases

    def heartbeat(self, lease: Lease, *, ttl: float) -> Lease:
        """See the protocol."""
        with self._write() as db:
            _held(db, lease)
            wanted = sa.select(sweeps.c.seq).join(sweep_cells).where(sweep_cells.c.cell_id == lease.cell.id)
            if db.execute(wanted.where(sweeps.c.state == SweepState.IN_PROGRESS)).first() is not None:
                extended = sa.update(cells).where(cells.c.id == lease.cell.id)
                db.execute(extended.values(expires_at=self._clock.now() + ttl))
                return lease_of(_cell(db, lease.cell.id))
            self._move(db, lease.cell.id, CellState.PENDING, None, {**_NO_LEASE, "attempts": cells.c.attempts - 1})
        raise StaleLease(f"no sweep wants cell {lease.cell.id} any more")

    def complete_cell(self, lease: Lease, file: CellFile) -> None:
        """See the protocol."""
        with self._write() as db:
            _held(db, lease)
            values = {"file": file.name, "rows": file.rows, "sha256": file.sha256, "error": None, **_NO_LEASE}
            self._move(db, lease.cell.id, CellState.COMPLETED, "cell.completed", values)

    def fail_cell(self, lease: Lease, error: str, *, retry: bool) -> None:
        """See the protocol."""
        with self._write() as db:
            self._give_back(db, _held(db, lease), error, retry=retry)

    def release(self, lease: Lease) -> None:
        """See the protocol."""
        with self._write() as db:
            _held(db, lease)
            self._move(db, lease.cell.id, CellState.PENDING, None, {**_NO_LEASE, "attempts": cells.c.attempts - 1})

    def expire_leases(self) -> int:
        """See the protocol."""
        with self._write() as db:
            late = sa.select(cells).where(cells.c.state == CellState.LEASED, cells.c.expires_at <= self._clock.now())
            rows = db.execute(late).mappings().all()
            for row in rows:
                self._give_back(db, row, f"the lease of {row['owner']} ran out", retry=True)
            return len(rows)

    def reset_cell(self, cell_id: str, reason: str) -> None:
        """See the protocol."""
        with self._write() as db:
            if _cell(db, cell_id)["state"] == CellState.COMPLETED:
                values = {**_NO_FILE, "attempts": 0, "error": reason}
                self._move(db, cell_id, CellState.PENDING, "cell.reset", values, error=reason)

    # --- how books are kept

    def _give_back(self, db: sa.Connection, row: Row, error: str, *, retry: bool) -> None:
        again = retry and row["attempts"] < MAX_ATTEMPTS
        target, kind = (CellState.PENDING, "cell.retrying") if again else (CellState.FAILED, "cell.failed")
        self._move(db, row["id"], target, kind, {**_NO_LEASE, "error": error}, error=error)

    def _move(
        self,
        db: sa.Connection,
        cell_id: str,
        target: CellState,
        kind: str | None,
        values: Values,
        **data: Any,
    ) -> None:
        """Move a cell and let every sweep that needs it follow."""
        before = CellState(_cell(db, cell_id)["state"])
        _set_state(db, cell_id, target, values)
        linked = sa.select(sweeps).join(sweep_cells).where(sweep_cells.c.cell_id == cell_id, sweeps.c.state.in_(ACTIVE))
        now = self._clock.now()
        for row in db.execute(linked).mappings().all():
            ledger = ledger_of(row)
            ledger.cell_moved(before, target, kind, now, cell_id=cell_id, **data)
            self._settle(db, row["seq"], ledger, now)

    def _settle(self, db: sa.Connection, seq: int, ledger: Ledger, now: float) -> None:
        def any_leased() -> bool:
            mine = sa.select(cells.c.id).join(sweep_cells).where(sweep_cells.c.sweep_seq == seq)
            return db.execute(mine.where(cells.c.state == CellState.LEASED)).first() is not None

        ledger.settle(now, any_leased)
        _save(db, seq, ledger)

    @contextmanager
    def _write(self) -> Iterator[sa.Connection]:
        with self._writing, self._engine.connect().execution_options(**WRITE) as connection, connection.begin():
            yield connection


def _first(db: sa.Connection, condition: sa.ColumnElement[bool]) -> Row | None:
    return db.execute(sa.select(sweeps).where(condition)).mappings().first()


def _sweep(db: sa.Connection, sweep_id: str) -> Row:
    row = _first(db, sweeps.c.id == sweep_id)
    if row is None:
        raise NotFound(f"no sweep {sweep_id}")
    return row


def _cell(db: sa.Connection, cell_id: str) -> Row:
    row = db.execute(sa.select(cells).where(cells.c.id == cell_id)).mappings().first()
    if row is None:
        raise NotFound(f"no cell {cell_id}")
    return row


def _held(db: sa.Connection, lease: Lease) -> Row:
    row = _cell(db, lease.cell.id)
    if row["state"] != CellState.LEASED or row["epoch"] != lease.epoch:
        raise StaleLease(f"the lease of {lease.owner} on cell {lease.cell.id} has passed (epoch {lease.epoch})")
    return row


def _set_state(db: sa.Connection, cell_id: str, target: CellState, values: Values) -> None:
    allowed = cells.c.state.in_(cell_may_come_from(target))
    moved = db.execute(sa.update(cells).where(cells.c.id == cell_id, allowed).values(state=target, **values))
    assert moved.rowcount == 1, f"cell {cell_id} cannot become {target}"


def _save(db: sa.Connection, seq: int, ledger: Ledger) -> None:
    db.execute(sa.update(sweeps).where(sweeps.c.seq == seq).values(**ledger_columns(ledger)))
    rows = [
        {"sweep_seq": seq, "id": event.id, "type": event.type, "data": event.data, "created_at": event.created_at}
        for event in ledger.news
    ]
    if rows:
        db.execute(sa.insert(events), rows)


def _new_cell(cell: Cell) -> dict[str, Any]:
    books = {"state": CellState.PENDING, "attempts": 0, "epoch": 0, "error": None}
    return {"id": cell.id, "body": cell.to_dict(), "model": cell.model, **books, **_NO_LEASE, **_NO_FILE}
