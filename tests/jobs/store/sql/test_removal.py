"""Contract of every store: deleted sweeps are gone at once, and what only they needed is erased.

That of expired results and events is in `test_results_contract`.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import pytest
import sqlalchemy as sa

from ampsweep.errors import Conflict, NotFound
from jobs.clock import Clock
from jobs.store.protocol import Store
from jobs.store.records import CellFile
from jobs.store.sql.database import Database
from jobs.store.sql.store import SqlStore
from jobs.store.sql.tables import events, sweep_cells, sweep_tags, sweeps
from jobs.store.sql.transaction import Transaction, write_transaction
from jobs.store.transitions import CellState, SweepState
from tests.jobs.cluster import ManualClock, a_cell, completed
from tests.jobs.store.calls import FILES, counts, finish, lease, leased, send


def swept(store: Store, *numbers: int, **more: Any) -> str:
    """Run a sweep to its end; return its id."""
    cells = [a_cell(number) for number in numbers]
    sweep = store.create_sweep(name="secret", spec={"a": "secret"}, cells=cells, **more)
    for held in lease(store, len(numbers)):
        file = CellFile(name=f"{held.cell.seed}.parquet", rows=1, sha256="s")
        assert store.report([completed(held, file)]) == []
    return finish(store, sweep.id, files=FILES).id


def files_of(store: Store, *numbers: int) -> list[str | None]:
    ids = [a_cell(number).id for number in numbers]
    states = store.cell_files(ids)
    return [states[cell_id].file for cell_id in ids]


def test_a_deleted_sweep_is_gone_at_once(store: Store, clock: ManualClock) -> None:
    gone = swept(store, 1, 2, idempotency_key="k")
    kept = send(store, start=5).id
    store.update_sweep(gone, tags=["t"])
    clock.time += 5
    store.delete_sweep(gone)
    for ask in (store.get_sweep, store.list_cells, store.events, store.delete_sweep, store.cancel_sweep):
        with pytest.raises(NotFound):
            ask(gone)
    with pytest.raises(NotFound):
        store.reopen_sweep(gone, "damaged")
    assert [sweep.id for sweep in store.list_sweeps().data] == [kept]
    assert store.list_sweeps(tags=["t"]).data == ()
    assert store.list_sweeps(after=gone).data == (), "a page may begin after it"
    assert store.sweep_of_key("k", {"a": "secret"}) is None
    assert store.create_sweep(name="n", spec={}, cells=[a_cell(9)], idempotency_key="k").id not in (gone, kept)
    (state,) = store.sweep_files([gone]).values()
    assert (state.files, state.leased) == (None, False), "its files are recognized as those of no sweep"
    assert store.stats().sweeps == {"in_progress": 2}


def test_erasing_spares_the_cells_that_other_sweeps_need(store: Store) -> None:
    gone = swept(store, 1, 2, 3)
    kept = swept(store, 2)
    before = store.stats()
    store.delete_sweep(gone)
    assert files_of(store, 1, 2, 3) == ["1.parquet", "2.parquet", "3.parquet"], "first it is only marked"
    running = send(store, 1, start=3).id
    assert store.erase_deleted() == 1
    assert store.erase_deleted() == 0
    assert files_of(store, 1, 2, 3) == [None, "2.parquet", "3.parquet"]
    assert store.get_sweep(kept).files == FILES
    assert counts(store, running) == (1, 1, 0, 1)
    assert store.stats().cells_asked == before.cells_asked + 1, "a counter never falls"
    assert counts(store, send(store, 3, start=1).id) == (3, 2, 0, 2), "what was erased is computed again"


def test_a_cell_that_another_sweep_ceases_to_need_during_the_removal_is_reset_too(
    sql_store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone, other = swept(sql_store, 1, 2, 3, 4, 5), swept(sql_store, 1)
    sql_store.delete_sweep(gone)
    chunks = 0

    def in_chunks(database: Database, clock: Clock) -> AbstractContextManager[Transaction]:
        nonlocal chunks
        chunks += 1
        if chunks == 2:
            sql_store.delete_sweep(other)
        return write_transaction(database, clock)

    monkeypatch.setattr("jobs.store.sql.removal.RESET_CHUNK", 2)
    monkeypatch.setattr("jobs.store.sql.removal.write_transaction", in_chunks)
    assert sql_store.erase_deleted() == 1
    assert files_of(sql_store, 1, 2, 3, 4, 5) == [None] * 5


@pytest.mark.parametrize("state", ["in_progress", "paused", "cancelling", "finalizing"])
def test_a_sweep_that_has_not_ended_is_not_deleted(store: Store, state: str) -> None:
    sweep = send(store, 1)
    held = lease(store)
    if state == "paused":
        store.pause_sweep(sweep.id)
    elif state == "cancelling":
        store.cancel_sweep(sweep.id)
    elif state == "finalizing":
        store.report([completed(each, CellFile(name="f", rows=1, sha256="s")) for each in held])
    with pytest.raises(Conflict):
        store.delete_sweep(sweep.id)
    assert store.get_sweep(sweep.id).state is SweepState(state)


def test_the_remedy_is_named(sql_store: SqlStore) -> None:
    sweep = send(sql_store, 1)
    with pytest.raises(Conflict, match="is in_progress; cancel it first, and delete it once it has ended"):
        sql_store.delete_sweep(sweep.id)
    lease(sql_store)
    sql_store.cancel_sweep(sweep.id)
    with pytest.raises(Conflict, match="is cancelling; delete it once it has ended"):
        sql_store.delete_sweep(sweep.id)


def test_a_cancelled_sweep_is_deleted_with_the_cells_it_had_completed(store: Store) -> None:
    sweep = send(store, 2)
    (held,) = lease(store)
    assert store.report([completed(held, CellFile(name="0.parquet", rows=1, sha256="s"))]) == []
    store.cancel_sweep(sweep.id)
    store.delete_sweep(sweep.id)
    assert store.erase_deleted() == 1
    assert files_of(store, 0, 1) == [None, None]
    assert store.cell_files([a_cell(0).id])[a_cell(0).id].epoch == 1, "epochs go on, so that late files are known"


def test_a_finalizer_that_is_late_for_a_deleted_sweep_has_lost_its_lease(store: Store, clock: ManualClock) -> None:
    sweep = send(store, 1)
    store.report([completed(held, CellFile(name="f", rows=1, sha256="s")) for held in lease(store)])
    late = leased(store, sweep.id)
    clock.time += 31
    finish(store, sweep.id, files=FILES)
    store.delete_sweep(sweep.id)
    other = send(store, 1, start=7)
    assert store.extend_sweep_leases([late], ttl=30) == [late]
    with pytest.raises(NotFound):
        store.finish_sweep(late, files=FILES)
    assert store.get_sweep(other.id).state is SweepState.IN_PROGRESS


class Killed(BaseException):
    """Ends a call at once, as a kill ends its process."""


def test_an_interrupted_erasure_is_continued(sql_store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.store.sql.removal.RESET_CHUNK", 2)
    monkeypatch.setattr("jobs.store.sql.removal.CHUNK", 3)
    gone = swept(sql_store, *range(9))
    sql_store.delete_sweep(gone)
    remaining = 0

    def dying(*arguments: Any) -> AbstractContextManager[Transaction]:
        nonlocal remaining
        remaining -= 1
        if remaining < 0:
            raise Killed
        return write_transaction(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr("jobs.store.sql.removal.write_transaction", dying)
        for surviving in range(3):
            remaining = surviving
            with pytest.raises(Killed):
                sql_store.erase_deleted()
            assert sql_store.list_sweeps().data == ()
    assert 0 < files_of(sql_store, *range(9)).count(None) < 9, "it was interrupted in its midst"
    assert sql_store.erase_deleted() == 1
    assert files_of(sql_store, *range(9)) == [None] * 9
    assert sql_store.erase_deleted() == 0


def test_nothing_that_its_user_wrote_stays_with_a_deleted_sweep(sql_store: SqlStore) -> None:
    gone = swept(sql_store, 1, owner="key_1", warnings=["secret"])
    sql_store.update_sweep(gone, tags=["secret"])
    sql_store.delete_sweep(gone)
    sql_store.erase_deleted()
    with sql_store._database.reading() as db:
        (row,) = db.execute(sa.select(sweeps)).mappings()
        others = [db.execute(sa.select(table)).all() for table in (events, sweep_cells, sweep_tags)]
    assert "secret" not in str(dict(row))
    assert (row["id"], row["owner"], row["total"]) == (gone, "", 1)
    assert others == [[], [], []]


def test_cells_of_a_deleted_sweep_that_are_leased_for_another_one_go_on(store: Store) -> None:
    gone = swept(store, 1)
    store.reset_cell(a_cell(1).id, "damaged")
    running = send(store, 1, start=1).id
    (held,) = lease(store)
    store.delete_sweep(gone)
    store.erase_deleted()
    assert store.report([completed(held, CellFile(name="again", rows=1, sha256="s"))]) == []
    assert [cell.state for cell in store.list_cells(running).data] == [CellState.COMPLETED]
