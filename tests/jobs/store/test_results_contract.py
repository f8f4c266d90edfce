"""Contract of every store: the files of sweeps and cells are recorded, reset and expired."""

from __future__ import annotations

import pytest

from ampsweep.errors import Conflict
from jobs.store.protocol import Store
from jobs.store.records import CellFile
from jobs.store.transitions import CellState, SweepState
from tests.jobs.cluster import ManualClock, a_cell, completed
from tests.jobs.store.calls import FILE, FILES, complete, counts, finish, lease, send


def test_a_damaged_cell_puts_its_finalizing_sweep_back_in_progress(store: Store) -> None:
    sweep = send(store, 1)
    complete(store)
    store.reset_cell(a_cell(0).id, "its file is lost")
    assert store.get_sweep(sweep.id).state is SweepState.IN_PROGRESS
    assert counts(store, sweep.id) == (1, 0, 0, 0)
    record = store.list_cells(sweep.id).data[0]
    assert (record.state, record.file, record.error) == (CellState.PENDING, None, "its file is lost")
    complete(store)
    assert store.finalizing() == [sweep.id]
    assert [event.id for event in store.events(sweep.id)] == list(range(1, 8))


def test_resetting_a_cell_that_is_not_completed_changes_nothing(store: Store) -> None:
    sweep = send(store, 1)
    (held,) = lease(store)
    store.reset_cell(held.cell.id, "lost")
    store.report([completed(held, FILE)])
    assert counts(store, sweep.id) == (1, 1, 0, 0)


def test_a_sweep_remembers_its_files(store: Store) -> None:
    sweep = send(store, 1)
    complete(store)
    assert finish(store, sweep.id, files=FILES).files == FILES
    assert store.get_sweep(sweep.id).files == FILES


def test_an_ended_sweep_with_damaged_files_is_finalized_again(store: Store) -> None:
    sweep = send(store, 2)
    complete(store, 2)
    finish(store, sweep.id, files=FILES)
    store.reset_cell(a_cell(1).id, "lost too")
    again = store.reopen_sweep(sweep.id, "its samples are lost")
    assert (again.state, again.files, again.ended_at) == (SweepState.IN_PROGRESS, None, None)
    assert counts(store, sweep.id) == (2, 1, 0, 0)
    assert store.reopen_sweep(sweep.id, "lost").state is SweepState.IN_PROGRESS
    complete(store, 1)
    assert finish(store, sweep.id, files=FILES).state is SweepState.COMPLETED
    ids = [event.id for event in store.events(sweep.id)]
    assert ids == list(range(1, len(ids) + 1))


def test_a_cancelled_sweep_is_not_finalized(store: Store) -> None:
    sweep = send(store, 1)
    store.cancel_sweep(sweep.id)
    with pytest.raises(Conflict):
        store.reopen_sweep(sweep.id, "lost")


def test_results_expire_except_for_cells_that_other_sweeps_need(store: Store, clock: ManualClock) -> None:
    old = send(store, 3)
    for held in lease(store, 3):
        name = f"{held.cell.seed}.parquet"
        store.report([completed(held, CellFile(name=name, rows=1, sha256="s"))])
    finish(store, old.id, files=FILES)
    clock.time += 100
    young = store.create_sweep(name="n", spec={}, cells=[a_cell(1), a_cell(7)])
    assert store.expire_results(clock.time - 100) == []
    assert store.expire_results(clock.time - 50) == [old.id]
    files = store.sweep_files([old.id, young.id, "none"])
    assert {sweep_id: state.files for sweep_id, state in files.items()} == {old.id: None, young.id: None}
    ids = [a_cell(number).id for number in range(3)]
    assert [store.cell_files(ids)[cell_id].file for cell_id in ids] == [None, "1.parquet", None]
    record = store.get_sweep(old.id)
    assert (record.state, record.files, record.expired_at) == (SweepState.COMPLETED, None, clock.time)
    assert store.expire_results(clock.time - 50) == []
    with pytest.raises(Conflict, match="expired"):
        store.reopen_sweep(old.id, "lost")
    assert counts(store, young.id) == (2, 1, 0, 1)
    assert counts(store, send(store, 3).id) == (3, 1, 0, 1), "what expired is computed again"


def test_a_cell_that_has_another_file_by_now_is_not_reset(store: Store) -> None:
    sweep = send(store, 1)
    complete(store)
    store.reset_cell(a_cell(0).id, "its file is lost", file="cell.0.parquet")
    assert counts(store, sweep.id) == (1, 1, 0, 0)
    store.reset_cell(a_cell(0).id, "its file is lost", file=FILE.name)
    assert counts(store, sweep.id) == (1, 0, 0, 0)


def test_more_results_than_one_transaction_takes_expire_at_once(
    store: Store, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.store.sql.removal.RESET_CHUNK", 10)
    monkeypatch.setattr("jobs.store.sql.transaction.CHUNK", 20)
    old = send(store, 45)
    files = [(held, CellFile(name=f"{held.cell.seed}", rows=1, sha256="s")) for held in lease(store, 45)]
    assert store.report([completed(held, file) for held, file in files]) == []
    finish(store, old.id, files=FILES)
    clock.time += 100
    assert store.expire_results(clock.time - 50) == [old.id]
    states = store.cell_files([a_cell(number).id for number in range(45)])
    assert [state.file for state in states.values()] == [None] * 45


def test_events_of_cells_go_once_their_sweep_has_ended_long_ago(store: Store, clock: ManualClock) -> None:
    old, alive = send(store, 2), send(store, 3)
    complete(store, 2)
    finish(store, old.id, files=FILES)
    clock.time += 100
    assert store.prune_events(clock.time - 100) == 0
    before = store.events(old.id)
    assert store.prune_events(clock.time - 50) == 2
    assert store.events(old.id) == [event for event in before if event.type.startswith("sweep.")]
    assert store.events(old.id, after=3) == before[3:]
    assert [event.id for event in store.events(alive.id)] == [1, 2, 3], "a sweep that runs keeps every event"
    assert store.prune_events(clock.time - 50) == 0
    store.reopen_sweep(old.id, "damaged")
    assert store.events(old.id)[-1].id == before[-1].id + 1, "ids go on"


def test_the_files_of_cells_are_known_by_epoch(store: Store) -> None:
    send(store, 2)
    one, two = lease(store, 2)
    store.report([completed(one, FILE)])
    files = store.cell_files([one.cell.id, two.cell.id, "cell_none"])
    assert {cell_id: (index.file, index.epoch, index.leased) for cell_id, index in files.items()} == {
        one.cell.id: (FILE.name, 1, False),
        two.cell.id: (None, 1, True),
    }
