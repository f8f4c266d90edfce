"""What every store promises of cells that several sweeps need."""

from __future__ import annotations

from jobs.store.protocol import Store
from jobs.store.records import Beat, Ending
from jobs.store.states import SweepState
from tests.jobs.store.calls import FILE, complete, counts, kinds, lease, send
from tests.jobs.world import completed, ended


def test_a_cell_that_two_sweeps_need_is_leased_once(store: Store) -> None:
    send(store, 2, start=10)
    send(store, 3, start=9)
    assert sorted(held.cell.seed for held in lease(store, 9)) == [9, 10, 11]
    assert lease(store, 3, owner="other") == []


def test_a_cell_that_is_done_is_reused(store: Store) -> None:
    send(store, 2)
    complete(store, 2)
    sweep = send(store, 3)
    assert counts(store, sweep.id) == (3, 2, 0, 2)
    assert [held.cell.seed for held in lease(store, 9)] == [2]


def test_a_sweep_of_nothing_but_reused_cells_is_finalizing_at_once(store: Store) -> None:
    send(store, 2)
    complete(store, 2)
    sweep = send(store, 2)
    assert sweep.state is SweepState.FINALIZING
    assert kinds(store, sweep.id) == ["sweep.created", "sweep.finalizing"]


def test_a_shared_cell_is_computed_once_and_counts_in_both_sweeps(store: Store) -> None:
    first, second = send(store, 1), send(store, 1)
    complete(store, 9)
    assert counts(store, first.id) == counts(store, second.id) == (1, 1, 0, 0)
    assert store.finalizing() == [first.id, second.id]


def test_a_new_sweep_gives_a_failed_cell_a_new_chance(store: Store) -> None:
    first = send(store, 2)
    store.report([ended(lease(store)[0], Ending.REFUSED, "died")])
    second = send(store, 1)
    assert counts(store, first.id) == (2, 0, 0, 0)
    assert counts(store, second.id) == (1, 0, 0, 0)
    assert store.list_cells(second.id).data[0].attempts == 0
    complete(store, 2)
    assert counts(store, first.id) == (2, 2, 0, 0)


def test_a_cell_that_another_sweep_wants_goes_on_when_one_is_cancelled(store: Store) -> None:
    first, second = send(store, 1), send(store, 1)
    (held,) = lease(store)
    store.cancel_sweep(first.id)
    assert store.heartbeat([Beat(lease=held)], ttl=30) == []
    store.report([completed(held, FILE)])
    assert store.get_sweep(first.id).state is SweepState.CANCELLED
    assert store.get_sweep(second.id).state is SweepState.FINALIZING
