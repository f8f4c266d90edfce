"""Contract of every store: a lease has one owner, an expiry, and an epoch that every write carries."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from ampsweep.domain.neurons.recording_progress import RecordingProgress
from jobs.store.cell_state import MAX_ATTEMPTS, MAX_EXPIRATIONS
from jobs.store.protocol import Store
from jobs.store.records import CellFile, CellOutcome, Heartbeat
from jobs.store.transitions import CellState
from tests.jobs.cluster import ManualClock, a_cell, completed, ended
from tests.jobs.store.calls import FILE, counts, kinds, lease, send


def test_only_cells_of_the_named_models_are_leased(store: Store) -> None:
    for seed, model in enumerate("ab"):
        store.create_sweep(name="n", spec={}, cells=[a_cell(seed, model=model)])
    assert [held.cell.seed for held in store.lease_cells("w", models=["b"], limit=9, ttl=1)] == [1]
    assert store.lease_cells("w", models=[], limit=9, ttl=1) == []


def test_a_write_under_an_old_epoch_changes_nothing(store: Store, clock: ManualClock) -> None:
    sweep = send(store, 1)
    (old,) = lease(store, owner="slow")
    clock.time += 31
    assert store.expire_leases() == 1
    (new,) = lease(store, owner="fast")
    assert new.epoch > old.epoch
    late = CellFile(name="late", rows=9, sha256="0")
    reports = [
        completed(old, late),
        *(ended(old, kind, "late") for kind in CellOutcome if kind is not CellOutcome.COMPLETED),
    ]
    for report in reports:
        assert store.report([report]) == [old]
    assert store.heartbeat([Heartbeat(lease=old, samples=7)], ttl=9) == [old]
    before = store.events(sweep.id)
    assert store.report([completed(new, FILE)]) == []
    assert store.report([completed(new, late)]) == [new]
    assert [event.type for event in store.events(sweep.id)[len(before) :]] == ["cell.completed", "sweep.finalizing"]
    assert store.list_cells(sweep.id).data[0].file == FILE.name
    assert counts(store, sweep.id) == (1, 1, 0, 0)


def test_a_heartbeat_keeps_a_lease(store: Store, clock: ManualClock) -> None:
    send(store, 1)
    (held,) = lease(store, ttl=30)
    clock.time += 20
    assert store.heartbeat([Heartbeat(lease=held)], ttl=30) == []
    clock.time += 20
    assert store.expire_leases() == 0
    clock.time += 10
    assert store.expire_leases() == 1


def test_an_expired_lease_counts_as_no_attempt_up_to_a_limit(store: Store, clock: ManualClock) -> None:
    sweep = send(store, 1)
    for expire in range(1, MAX_EXPIRATIONS + 1):
        assert len(lease(store)) == 1
        clock.time += 31
        assert store.expire_leases() == 1
        record = store.list_cells(sweep.id).data[0]
        assert (record.state, record.attempts) == (
            CellState.PENDING if expire < MAX_EXPIRATIONS else CellState.FAILED,
            0,
        )
    assert "ran out" in str(record.error)


def test_a_released_cell_has_no_attempt(store: Store) -> None:
    sweep = send(store, 1)
    for _ in range(MAX_ATTEMPTS + 1):
        (held,) = lease(store)
        store.report([ended(held, CellOutcome.RELEASED)])
    record = store.list_cells(sweep.id).data[0]
    assert (record.state, record.attempts) == (CellState.PENDING, 0)


def test_many_threads_lease_and_complete_each_cell_once(store: Store) -> None:
    sweep = send(store, 40)

    def work(owner: str) -> list[str]:
        done: list[str] = []
        while held := lease(store, 3, owner=owner):
            for each in held:
                store.report([completed(each, FILE)])
                done.append(each.cell.id)
        return done

    with ThreadPoolExecutor(4) as threads:
        done = [cell_id for ids in threads.map(work, "abcd") for cell_id in ids]
    assert len(done) == len(set(done)) == 40
    assert counts(store, sweep.id) == (40, 40, 0, 0)
    assert [event.id for event in store.events(sweep.id)] == list(range(1, 43))


def test_progress_is_seen_in_the_sweep_the_cell_and_the_events(store: Store) -> None:
    sweep = send(store, 2)
    one, two = lease(store, 2)
    store.heartbeat([Heartbeat(lease=one, samples=5), Heartbeat(lease=two, samples=1)], ttl=30)
    store.heartbeat([Heartbeat(lease=one, samples=8), Heartbeat(lease=two, samples=1)], ttl=30)
    assert store.get_sweep(sweep.id).samples == 9
    assert [cell.samples for cell in store.list_cells(sweep.id).data] == [8, 1]
    last = store.events(sweep.id)[-1]
    assert (last.type, last.data["samples"], last.data["cell_samples"], last.data["cell_id"]) == (
        "cell.progress",
        9,
        8,
        one.cell.id,
    )
    assert kinds(store, sweep.id).count("cell.progress") == 3
    store.report([completed(one, FILE), ended(two, CellOutcome.RELEASED)])
    assert store.get_sweep(sweep.id).samples == FILE.rows


def test_the_identification_that_a_steered_cell_waits_for_is_an_event(store: Store) -> None:
    sweep = store.create_sweep(name="n", spec={}, cells=[a_cell(0), a_cell(1, factor=2.0)])
    held = lease(store, 2)
    recording = RecordingProgress(
        language="fr", languages=2, languages_done=1, tokens=30, total_tokens=40, tokens_per_second=5.0
    )
    store.heartbeat([Heartbeat(lease=each, recording=recording) for each in held], ttl=30)
    (told,) = [event.data for event in store.events(sweep.id) if event.type == "cell.finding_neurons"]
    assert (told["neuron_set"], told["tokens"], told["seconds_left"]) == ("ns_1", 30, 2.0)


def test_a_lease_says_for_which_sweeps_it_is_and_how_often_the_cell_was_tried(store: Store, clock: ManualClock) -> None:
    first, second = send(store, 1), send(store, 1)
    (held,) = lease(store)
    assert (held.sweep_ids, held.tries) == ((first.id, second.id), 1)
    store.report([ended(held, CellOutcome.FAILED, "oops")])
    (again,) = lease(store)
    assert again.tries == 2
    clock.time += 31
    assert store.expire_leases() == 1
    (third,) = lease(store)
    assert third.tries == 3
    store.cancel_sweep(first.id)
    store.report([ended(third, CellOutcome.RELEASED)])
    (fourth,) = lease(store)
    assert (fourth.sweep_ids, fourth.tries) == ((second.id,), 3)


def test_an_old_heartbeat_beside_a_new_one_does_not_hide_it(store: Store, clock: ManualClock) -> None:
    sweep = send(store, 1)
    (old,) = lease(store)
    clock.time += 31
    store.expire_leases()
    (new,) = lease(store)
    assert store.heartbeat([Heartbeat(lease=new, samples=8), Heartbeat(lease=old, samples=3)], ttl=30) == [old]
    assert store.list_cells(sweep.id).data[0].samples == 8
