"""Contract of every store: the lease on a finalizing sweep has one owner, an expiry and an epoch."""

from __future__ import annotations

import pytest

from ampsweep.errors import Conflict, NotFound
from jobs.store.protocol import Store
from jobs.store.records import SweepFiles
from jobs.store.transitions import SweepState
from tests.jobs.cluster import ManualClock, a_cell
from tests.jobs.store.calls import complete, counts, finish, send


def files(epoch: int) -> SweepFiles:
    return SweepFiles(samples=f"{epoch}", summary=f"{epoch}", epoch=epoch)


def test_a_finalizing_sweep_is_leased_to_one_owner(store: Store) -> None:
    sweep = send(store, 1)
    assert store.lease_sweep(sweep.id, "early", ttl=30) is None
    complete(store)
    held = store.lease_sweep(sweep.id, "one", ttl=30)
    assert held is not None
    assert (held.owner, held.epoch) == ("one", 1)
    assert store.lease_sweep(sweep.id, "other", ttl=30) is None
    assert store.finalizing() == []
    assert store.finish_sweep(held, files=files(1)).files == files(1)
    assert store.lease_sweep(sweep.id, "late", ttl=30) is None
    with pytest.raises(NotFound):
        store.lease_sweep("sweep_none", "one", ttl=30)


def test_without_heartbeats_the_lease_is_lost_and_late_writes_change_nothing(store: Store, clock: ManualClock) -> None:
    sweep = send(store, 1)
    complete(store)
    old = store.lease_sweep(sweep.id, "killed", ttl=30)
    assert old is not None
    clock.time += 29
    assert store.finalizing() == []
    clock.time += 1
    assert store.finalizing() == [sweep.id]
    new = store.lease_sweep(sweep.id, "other", ttl=30)
    assert new is not None
    assert new.epoch == old.epoch + 1
    before = store.get_sweep(sweep.id), store.events(sweep.id)
    assert store.extend_sweep_leases([old, new], ttl=30) == [old]
    with pytest.raises(Conflict):
        store.finish_sweep(old, files=files(old.epoch))
    with pytest.raises(Conflict):
        store.finish_sweep(old, error="no")
    with pytest.raises(Conflict):
        store.extend_sweep(old, [a_cell(7)])
    assert (store.get_sweep(sweep.id), store.events(sweep.id)) == before
    assert store.finish_sweep(new, files=files(new.epoch)).files == files(new.epoch)


def test_heartbeats_keep_the_lease(store: Store, clock: ManualClock) -> None:
    sweep = send(store, 1)
    complete(store)
    held = store.lease_sweep(sweep.id, "w", ttl=30)
    assert held is not None
    for _ in range(3):
        clock.time += 20
        assert store.extend_sweep_leases([held], ttl=30) == []
    assert store.lease_sweep(sweep.id, "other", ttl=30) is None
    assert store.extend_sweep_leases([held], ttl=0) == []
    assert store.finalizing() == [sweep.id], "it was given back"


def test_it_ends_when_a_cell_goes_back_to_work(store: Store) -> None:
    sweep = send(store, 1)
    complete(store)
    old = store.lease_sweep(sweep.id, "w", ttl=30)
    assert old is not None
    store.reset_cell(a_cell(0).id, "lost")
    assert store.extend_sweep_leases([old], ttl=30) == [old]
    complete(store)
    with pytest.raises(Conflict):
        store.finish_sweep(old, files=files(old.epoch))
    assert store.get_sweep(sweep.id).state is SweepState.FINALIZING
    assert finish(store, sweep.id, files=files(2)).files == files(2)


def test_each_rung_has_an_epoch_of_its_own(store: Store) -> None:
    sweep = send(store, 1)
    complete(store)
    first = store.lease_sweep(sweep.id, "w", ttl=30)
    assert first is not None
    store.extend_sweep(first, [a_cell(7)])
    complete(store)
    with pytest.raises(Conflict):
        store.extend_sweep(first, [a_cell(8)])
    assert counts(store, sweep.id) == (2, 2, 0, 0)
    second = store.lease_sweep(sweep.id, "w", ttl=30)
    assert second is not None
    assert second.epoch == 2


def test_the_files_of_sweeps_are_known_by_epoch(store: Store) -> None:
    sweep = send(store, 1)
    complete(store)

    def files_of_sweep() -> tuple[SweepFiles | None, int, bool]:
        (state,) = store.sweep_files([sweep.id, "sweep_none"]).values()
        return state.files, state.epoch, state.leased

    assert files_of_sweep() == (None, 0, False)
    held = store.lease_sweep(sweep.id, "w", ttl=30)
    assert held is not None
    assert files_of_sweep() == (None, 1, True)
    store.finish_sweep(held, files=files(1))
    assert files_of_sweep() == (files(1), 1, False)
