"""What only the SQL store guarantees: durable data, leases of dead processes ended, long plans fast."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import sqlalchemy as sa

from ampsweep.errors import Unavailable
from jobs.cell import Cell
from jobs.store.records import CellFile, CellOutcome
from jobs.store.sql.database import JsonText
from jobs.store.sql.store import SqlStore
from jobs.store.sql.tables import sweeps
from jobs.store.sql.transaction import cell_bodies
from jobs.store.transitions import CellState
from tests.jobs.cluster import CountingIds, ManualClock, a_cell, completed, ended, quick_sql_store
from tests.jobs.store.calls import lease, send


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/deep/er/store.db"


def test_what_was_leased_by_a_process_that_is_gone_is_taken_back(url: str, clock: ManualClock) -> None:
    ids = CountingIds()
    store = SqlStore(url, clock, ids)
    sweep = store.create_sweep(name="n", spec={"x": [1, None, "ü"]}, cells=[a_cell(0, factor=2.0), a_cell(1)])
    (held,) = store.lease_cells("w", models=["tiny"], limit=1, ttl=30)
    store.close()
    again = SqlStore(url, clock, ids)
    assert again.list_cells(sweep.id).data[0].state is CellState.PENDING, "who had it leased is gone"
    assert again.report([completed(held, CellFile(name="f", rows=1, sha256="s"))]) == [held]
    again.close()


def test_what_ended_is_still_there_after_opening_again(url: str, clock: ManualClock) -> None:
    ids = CountingIds()
    store = SqlStore(url, clock, ids)
    sweep = store.create_sweep(name="n", spec={"x": [1, None, "ü"]}, cells=[a_cell(0, factor=2.0), a_cell(1)])
    (held,) = store.lease_cells("w", models=["tiny"], limit=1, ttl=30)
    store.report([completed(held, CellFile(name="f", rows=1, sha256="s"))])
    before = (store.get_sweep(sweep.id), store.list_cells(sweep.id), store.events(sweep.id))
    store.close()
    again = SqlStore(url, clock, ids)
    assert (again.get_sweep(sweep.id), again.list_cells(sweep.id), again.events(sweep.id)) == before
    again.close()


def test_the_cells_of_a_large_sweep_are_serialized_before_other_writers_have_to_wait(
    sql_store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def serialized(planned: Sequence[Cell]) -> list[JsonText]:
        sql_store.update_sweep(first.id, name="renamed meanwhile")  # would never end within the transaction
        return cell_bodies(planned)

    first = send(sql_store, 1)
    monkeypatch.setattr("jobs.store.sql.store.cell_bodies", serialized)
    second = send(sql_store, 2, start=5)
    assert sql_store.get_sweep(first.id).name == "renamed meanwhile"
    assert [record.cell for record in sql_store.list_cells(second.id).data] == [a_cell(5), a_cell(6)]


def test_many_cells_are_inserted_in_parts(sql_store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.store.sql.transaction.CHUNK", 2)
    cells = [a_cell(0), *(a_cell(number, factor=number) for number in range(1, 7))]
    sweep = sql_store.create_sweep(name="n", spec={}, cells=cells)
    assert [record.cell for record in sql_store.list_cells(sweep.id).data] == cells


WRITER = """
import sys
from jobs.store.records import CellFile, CellOutcome
from jobs.store.sql.store import SqlStore
from tests.jobs.cluster import CountingIds, ManualClock, a_cell, completed, ended, quick_sql_store

store = SqlStore(sys.argv[1], ManualClock(), CountingIds())
store.create_sweep(name="n", spec={}, cells=[a_cell(0), a_cell(1)])
held, _ = store.lease_cells("w", models=["tiny"], limit=2, ttl=30)
store.report([completed(held, CellFile(name="f", rows=1, sha256="s"))])
print("written", flush=True)
sys.stdin.read()
"""


@pytest.mark.processes
def test_what_a_killed_process_wrote_is_there_and_its_file_is_free(url: str, clock: ManualClock) -> None:
    root = Path(__file__).parents[4]
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, url], cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "written\n"
        writer.kill()
    store = SqlStore(url, clock, CountingIds())
    states = [record.state for record in store.list_cells("sweep_1").data]
    assert states == [CellState.COMPLETED, CellState.PENDING]
    assert store.lease_cells("other", models=["tiny"], limit=9, ttl=30)[0].cell == a_cell(1)
    store.close()


def test_a_second_store_in_this_process_is_refused_too(url: str, clock: ManualClock) -> None:
    store = SqlStore(url, clock, CountingIds())
    with pytest.raises(Unavailable):
        SqlStore(url, clock, CountingIds())
    store.close()


def test_a_store_that_cannot_take_leases_back_lets_go_of_its_file(
    url: str, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> int:
        raise Unavailable("the database is temporarily unavailable: disk I/O error")

    with monkeypatch.context() as patched:
        patched.setattr(SqlStore, "_expire_where", fail)
        with pytest.raises(Unavailable, match="disk I/O error"):
            SqlStore(url, clock, CountingIds())
    SqlStore(url, clock, CountingIds()).close()


def test_thousands_of_cells_are_stored_quickly(url: str, clock: ManualClock) -> None:
    store = SqlStore(url, clock, CountingIds())
    cells = [a_cell(number) for number in range(2_500)]
    assert len({cell.id for cell in cells}) == 2_500
    start = time.process_time()
    sweep = store.create_sweep(name="n", spec={}, cells=cells)
    assert time.process_time() - start < 1
    assert sweep.request_counts.total == 2_500
    assert store.create_sweep(name="n", spec={}, cells=cells).request_counts.reused == 0
    store.close()


def test_leasing_does_not_scan_a_long_plan_from_its_start(tmp_path: Path, clock: ManualClock) -> None:
    store = quick_sql_store(tmp_path, clock)
    sweep = send(store, 10)
    first, *_ = lease(store, 6)
    lease(store, 1)

    def first_pending() -> int:
        with store._database.reading() as db:
            return int(db.execute(sa.select(sweeps.c.first_pending)).scalar_one())

    assert first_pending() == 6
    assert store.report([ended(first, CellOutcome.FAILED, "again")]) == []
    assert first_pending() == 0, "the first cell waits again"
    assert [held.cell for held in lease(store, 2)] == [cell.cell for cell in store.list_cells(sweep.id).data[0:8:7]]
    store.close()
