"""Contract of every store: cancelled and paused sweeps."""

from __future__ import annotations

import pytest

from ampsweep.errors import Conflict
from jobs.store.protocol import Store
from jobs.store.records import CellOutcome, Heartbeat
from jobs.store.transitions import SweepState
from tests.jobs.cluster import ManualClock, completed, ended
from tests.jobs.store.calls import FILE, complete, finish, kinds, lease, send


def test_cancelling_an_idle_sweep_ends_it(store: Store, clock: ManualClock) -> None:
    sweep = send(store)
    clock.time += 1
    ended = store.cancel_sweep(sweep.id)
    assert (ended.state, ended.ended_at) == (SweepState.CANCELLED, clock.time)
    assert kinds(store, sweep.id) == ["sweep.created", "sweep.cancelling", "sweep.cancelled"]
    assert lease(store) == []


@pytest.mark.parametrize("how", ["complete", "fail", "release", "expire", "heartbeat"])
def test_a_cancelled_sweep_ends_once_its_running_cell_has(store: Store, clock: ManualClock, how: str) -> None:
    sweep = send(store, 2)
    (held,) = lease(store)
    assert store.cancel_sweep(sweep.id).state is SweepState.CANCELLING
    assert store.cancel_sweep(sweep.id).state is SweepState.CANCELLING
    assert lease(store) == []
    if how == "complete":
        store.report([completed(held, FILE)])
    elif how == "fail":
        store.report([ended(held, CellOutcome.FAILED, "aborted")])
    elif how == "release":
        store.report([ended(held, CellOutcome.RELEASED)])
    elif how == "expire":
        clock.time += 31
        store.expire_leases()
    else:
        assert store.heartbeat([Heartbeat(lease=held)], ttl=30) == [held]
    assert store.get_sweep(sweep.id).state is SweepState.CANCELLED


def test_a_sweep_that_has_ended_or_is_finalizing_cannot_be_cancelled(store: Store) -> None:
    sweep = send(store, 1)
    complete(store)
    with pytest.raises(Conflict):
        store.cancel_sweep(sweep.id)
    finish(store, sweep.id)
    with pytest.raises(Conflict):
        store.cancel_sweep(sweep.id)


def test_a_paused_sweep_gets_no_new_cells_and_keeps_those_that_run(store: Store) -> None:
    sweep = send(store, 3)
    (held,) = lease(store)
    assert store.pause_sweep(sweep.id).state is SweepState.PAUSED
    assert store.pause_sweep(sweep.id).state is SweepState.PAUSED
    assert lease(store, 9) == []
    assert store.heartbeat([Heartbeat(lease=held)], ttl=30) == []
    store.report([completed(held, FILE)])
    assert store.resume_sweep(sweep.id).state is SweepState.IN_PROGRESS
    assert store.resume_sweep(sweep.id).state is SweepState.IN_PROGRESS
    assert len(lease(store, 9)) == 2
    assert [kind for kind in kinds(store, sweep.id) if kind.startswith("sweep")] == [
        "sweep.created",
        "sweep.paused",
        "sweep.in_progress",
    ]


def test_a_paused_sweep_whose_last_cells_ran_ends_and_can_be_cancelled(store: Store) -> None:
    first, second = send(store, 1, start=100), send(store, 1, start=200)
    (held,) = lease(store)
    for sweep in (first, second):
        store.pause_sweep(sweep.id)
    store.report([completed(held, FILE)])
    assert store.get_sweep(first.id).state is SweepState.FINALIZING
    assert store.cancel_sweep(second.id).state is SweepState.CANCELLED
    for change in (store.pause_sweep, store.resume_sweep):
        with pytest.raises(Conflict):
            change(second.id)
