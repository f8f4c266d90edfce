"""Migrations from every released revision to the newest, with data, on both databases."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.script import ScriptDirectory

from jobs.store.records import CellFile
from jobs.store.sql.database import MIGRATIONS, migration_config, postgres_engine, sqlite_engine
from jobs.store.sql.store import SqlStore
from jobs.store.transitions import CellState, SweepState
from tests.jobs.cluster import CountingIds, ManualClock, a_cell, completed

REVISIONS = [revision.revision for revision in ScriptDirectory(str(MIGRATIONS)).walk_revisions()]


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.processes)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/store.db"
        return
    server = sa.make_url(request.getfixturevalue("postgres_url"))
    engine = postgres_engine(server).execution_options(isolation_level="AUTOCOMMIT")
    with engine.connect() as db:
        db.execute(sa.text("CREATE DATABASE empty"))
    yield server.set(database="empty").render_as_string()
    with engine.connect() as db:
        db.execute(sa.text("DROP DATABASE empty WITH (FORCE)"))
    engine.dispose()


def engine_of(url: str) -> sa.Engine:
    parsed = sa.make_url(url)
    return sqlite_engine(parsed) if parsed.get_backend_name() == "sqlite" else postgres_engine(parsed)


def write_as_of(url: str, revision: str) -> None:
    """Make the tables of a revision, with a sweep of two cells: one completed, one leased."""
    engine = engine_of(url)
    with engine.connect().execution_options(ampsweep_write=True) as db:
        command.upgrade(migration_config(db), revision)
        tables = sa.MetaData()
        tables.reflect(db)
        filled = {
            "sweeps": _SWEEP,
            "cells": _DONE,
            "sweep_cells": {"sweep_seq": 1, "position": 0, "cell_id": _DONE["id"]},
        }
        for name, row in filled.items():
            db.execute(sa.insert(tables.tables[name]).values(_of_columns(tables.tables[name], row)))
        cells, links, events = (tables.tables[name] for name in ("cells", "sweep_cells", "events"))
        db.execute(sa.insert(cells).values(_of_columns(cells, {**_DONE, **_LEASED})))
        db.execute(sa.insert(links).values(sweep_seq=1, position=1, cell_id=_LEASED["id"]))
        db.execute(sa.insert(events).values(sweep_seq=1, id=1, type="sweep.created", data={}, created_at=1.0))
        db.commit()
    engine.dispose()


def _of_columns(table: sa.Table, row: dict[str, object]) -> dict[str, object]:
    """Return the values of a row, and for other columns that need one a zero of their type."""
    needed = [column for column in table.c if not column.nullable and column.server_default is None]
    zero = {column.name: column.type.python_type() for column in needed}
    return {name: value for name, value in {**zero, **row}.items() if name in table.c}


_SWEEP: dict[str, object] = {
    "seq": 1,
    "id": "sweep_old",
    "name": "old",
    "state": "in_progress",
    "spec": {"a": 1},
    "idempotency_key": "k",
    "total": 2,
    "completed": 1,
    "leased": 1,
    "events": 1,
    "samples": 5,
    "model": "tiny",
}
_DONE: dict[str, object] = {
    "id": a_cell(0).id,
    "body": a_cell(0).to_dict(),
    "model": "tiny",
    "state": "completed",
    "attempts": 1,
    "epoch": 3,
    "file": "f",
    "rows": 5,
    "samples": 5,
    "sha256": "s",
}
_LEASED: dict[str, object] = {
    "id": a_cell(1).id,
    "body": a_cell(1).to_dict(),
    "state": "leased",
    "owner": "gone",
    "expires_at": 1.0,
    "file": None,
    "rows": None,
    "samples": 0,
    "sha256": None,
}


@pytest.mark.parametrize("revision", REVISIONS)
def test_migrated_databases_keep_their_data_continue_their_work_and_have_the_newest_tables(
    url: str, revision: str, clock: ManualClock
) -> None:
    write_as_of(url, revision)
    store = SqlStore(url, clock, CountingIds())
    store.expire_leases()
    sweep = store.get_sweep("sweep_old")
    assert (sweep.state, sweep.spec, sweep.request_counts.completed, sweep.samples) == (
        SweepState.IN_PROGRESS,
        {"a": 1},
        1,
        5,
    )
    done, waiting = store.list_cells("sweep_old").data
    assert (done.state, done.file, done.rows, waiting.state) == (CellState.COMPLETED, "f", 5, CellState.PENDING)
    (lease,) = store.lease_cells("w", models=["tiny"], limit=9, ttl=30)
    assert lease.epoch == 4
    assert store.report([completed(lease, CellFile(name="g", rows=2, sha256="t"))]) == []
    assert store.finalizing() == ["sweep_old"]
    assert store.get_sweep("sweep_old").samples == 7
    ids = [event.id for event in store.events("sweep_old")]
    assert ids == list(range(1, len(ids) + 1))
    store.close()
    engine = engine_of(url)
    with engine.connect() as connection:
        command.check(migration_config(connection))  # raises where autogenerate would write a revision
    engine.dispose()
