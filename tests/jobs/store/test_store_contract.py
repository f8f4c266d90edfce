"""What every store promises."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from ampsweep.errors import Conflict, InvalidRequest, NotFound
from jobs.cell import Cell
from jobs.store.cell_books import MAX_ATTEMPTS, MAX_LAPSES
from jobs.store.protocol import Store
from jobs.store.records import Beat, CellFile, Ending, Lease, RequestCounts, SweepFiles, SweepRecord
from jobs.store.states import CellState, SweepState
from tests.jobs.world import ManualClock, a_cell, completed, ended

FILE = CellFile(name="cell.1.parquet", rows=2, sha256="f" * 64)


def send(store: Store, count: int = 2, *, start: int = 0, **more: Any) -> SweepRecord:
    cells = [a_cell(number) for number in range(start, start + count)]
    return store.create_sweep(name="n", spec={"a": 1}, cells=cells, **more)


def lease(store: Store, limit: int = 1, *, owner: str = "w", ttl: float = 30.0) -> list[Lease]:
    return store.lease_cells(owner, models=["tiny"], limit=limit, ttl=ttl)


def complete(store: Store, count: int = 1) -> None:
    assert store.report([completed(held, FILE) for held in lease(store, count)]) == []


def counts(store: Store, sweep_id: str) -> tuple[int, int, int, int]:
    found: RequestCounts = store.get_sweep(sweep_id).request_counts
    return found.total, found.completed, found.failed, found.reused


def kinds(store: Store, sweep_id: str) -> list[str]:
    return [event.type for event in store.events(sweep_id)]


def states(store: Store, sweep_id: str) -> list[CellState]:
    return [record.state for record in store.list_cells(sweep_id).data]


def test_a_sweep_is_in_progress_when_it_is_stored(store: Store, clock: ManualClock) -> None:
    sweep = send(store, 3)
    assert (sweep.state, sweep.name, sweep.spec) == (SweepState.IN_PROGRESS, "n", {"a": 1})
    assert (sweep.created_at, sweep.ended_at, sweep.error) == (clock.time, None, None)
    assert counts(store, sweep.id) == (3, 0, 0, 0)
    assert store.get_sweep(sweep.id) == sweep


def test_cells_come_back_as_they_were_planned_in_order_and_in_pages(store: Store) -> None:
    cells = [a_cell(number, factor=2.0, layers=[0, 2]) for number in range(5)]
    sweep = store.create_sweep(name="n", spec={}, cells=cells)
    first = store.list_cells(sweep.id, limit=3)
    second = store.list_cells(sweep.id, after=first.data[-1].id, limit=3)
    assert [record.cell for record in (*first.data, *second.data)] == cells
    assert [record.cell.id for record in first.data] == [cell.id for cell in cells[:3]]
    assert (first.has_more, second.has_more) == (True, False)


def test_sweeps_are_listed_newest_first_in_pages(store: Store) -> None:
    ids = [send(store).id for _ in range(3)]
    first = store.list_sweeps(limit=2)
    assert ([sweep.id for sweep in first.data], first.has_more) == ([ids[2], ids[1]], True)
    second = store.list_sweeps(after=ids[1], limit=2)
    assert ([sweep.id for sweep in second.data], second.has_more) == ([ids[0]], False)


@pytest.mark.parametrize(
    "ask", ["get_sweep", "list_cells", "events", "cancel_sweep", "finish_sweep", "pause_sweep", "resume_sweep"]
)
def test_what_is_not_there_is_not_found(store: Store, ask: str) -> None:
    with pytest.raises(NotFound):
        getattr(store, ask)("sweep_none")


def test_an_unknown_place_in_a_list_is_not_found(store: Store) -> None:
    sweep = send(store)
    with pytest.raises(NotFound):
        store.list_sweeps(after="sweep_none")
    with pytest.raises(NotFound):
        store.list_cells(sweep.id, after="cell_none")
    with pytest.raises(NotFound):
        store.reset_cell("cell_none", "lost")


def test_the_same_key_gives_the_same_sweep(store: Store) -> None:
    first = send(store, idempotency_key="k")
    assert send(store, idempotency_key="k").id == first.id
    assert send(store, idempotency_key="other").id != first.id
    assert len(store.list_sweeps().data) == 2


def test_the_same_key_with_another_spec_is_refused(store: Store) -> None:
    send(store, idempotency_key="k")
    with pytest.raises(InvalidRequest) as caught:
        store.create_sweep(name="n", spec={"a": 2}, cells=[a_cell()], idempotency_key="k")
    assert caught.value.param == "Idempotency-Key"


def test_a_cell_that_two_sweeps_need_is_leased_once(store: Store) -> None:
    send(store, 2, start=10)
    send(store, 3, start=9)
    assert sorted(held.cell.seed for held in lease(store, 9)) == [9, 10, 11]
    assert lease(store, 3, owner="other") == []


def test_only_cells_of_the_named_models_are_leased(store: Store) -> None:
    for seed, model in enumerate("ab"):
        store.create_sweep(name="n", spec={}, cells=[a_cell(seed, model=model)])
    assert [held.cell.seed for held in store.lease_cells("w", models=["b"], limit=9, ttl=1)] == [1]
    assert store.lease_cells("w", models=[], limit=9, ttl=1) == []


def test_a_completed_sweep_goes_through_finalizing(store: Store, clock: ManualClock) -> None:
    sweep = send(store, 2)
    complete(store)
    assert store.finalizing() == []
    complete(store)
    assert store.finalizing() == [sweep.id]
    clock.time += 5
    ended = store.finish_sweep(sweep.id)
    assert (ended.state, ended.ended_at) == (SweepState.COMPLETED, clock.time)
    assert store.finalizing() == []
    record = store.list_cells(sweep.id).data[0]
    assert (record.state, record.file, record.rows, record.sha256) == (
        CellState.COMPLETED,
        FILE.name,
        FILE.rows,
        FILE.sha256,
    )


def test_events_have_ids_without_gaps_and_carry_the_counts(store: Store) -> None:
    sweep = send(store, 2)
    complete(store, 2)
    store.finish_sweep(sweep.id)
    events = store.events(sweep.id)
    assert [event.id for event in events] == [1, 2, 3, 4, 5]
    assert kinds(store, sweep.id) == [
        "sweep.created",
        "cell.completed",
        "cell.completed",
        "sweep.finalizing",
        "sweep.completed",
    ]
    assert events[1].data["request_counts"] == {"total": 2, "completed": 1, "failed": 0, "reused": 0}
    assert events[1].data["cell_id"] == a_cell(0).id
    assert events[4].data["status"] == "completed"
    assert store.events(sweep.id, after=3) == events[3:]
    assert store.events(sweep.id, after=1, limit=2) == events[1:3]


def test_a_sweep_can_end_failed_with_its_reason(store: Store) -> None:
    sweep = send(store, 1)
    complete(store)
    ended = store.finish_sweep(sweep.id, error="the disk is full")
    assert (ended.state, ended.error) == (SweepState.FAILED, "the disk is full")
    assert store.events(sweep.id)[-1].data["error"] == "the disk is full"


def test_a_sweep_in_progress_cannot_be_finished(store: Store) -> None:
    sweep = send(store)
    with pytest.raises(Conflict):
        store.finish_sweep(sweep.id)
    assert store.get_sweep(sweep.id).state is SweepState.IN_PROGRESS


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


def test_a_write_under_an_old_epoch_changes_nothing(store: Store, clock: ManualClock) -> None:
    sweep = send(store, 1)
    (old,) = lease(store, owner="slow")
    clock.time += 31
    assert store.expire_leases() == 1
    (new,) = lease(store, owner="fast")
    assert new.epoch > old.epoch
    late = CellFile(name="late", rows=9, sha256="0")
    reports = [completed(old, late), *(ended(old, kind, "late") for kind in Ending if kind is not Ending.COMPLETED)]
    for report in reports:
        assert store.report([report]) == [old]
    assert store.heartbeat([Beat(lease=old, samples=7)], ttl=9) == [old]
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
    assert store.heartbeat([Beat(lease=held)], ttl=30) == []
    clock.time += 20
    assert store.expire_leases() == 0
    clock.time += 10
    assert store.expire_leases() == 1


def test_a_cell_is_tried_as_often_as_allowed_and_then_fails(store: Store) -> None:
    sweep = send(store, 1)
    for attempt in range(1, MAX_ATTEMPTS + 1):
        (held,) = lease(store)
        store.report([ended(held, Ending.FAILED, f"attempt {attempt}")])
    record = store.list_cells(sweep.id).data[0]
    assert (record.state, record.attempts, record.error) == (CellState.FAILED, MAX_ATTEMPTS, f"attempt {MAX_ATTEMPTS}")
    assert counts(store, sweep.id) == (1, 0, 1, 0)
    assert store.finalizing() == [sweep.id]
    retrying = ["cell.retrying"] * (MAX_ATTEMPTS - 1)
    assert kinds(store, sweep.id) == ["sweep.created", *retrying, "cell.failed", "sweep.finalizing"]


def test_a_lease_that_runs_out_is_its_owners_fault_but_not_for_ever(store: Store, clock: ManualClock) -> None:
    sweep = send(store, 1)
    for lapse in range(1, MAX_LAPSES + 1):
        assert len(lease(store)) == 1
        clock.time += 31
        assert store.expire_leases() == 1
        record = store.list_cells(sweep.id).data[0]
        assert (record.state, record.attempts) == (CellState.PENDING if lapse < MAX_LAPSES else CellState.FAILED, 0)
    assert "ran out" in str(record.error)


def test_a_cell_given_back_untried_does_not_count(store: Store) -> None:
    sweep = send(store, 1)
    for _ in range(MAX_ATTEMPTS + 1):
        (held,) = lease(store)
        store.report([ended(held, Ending.RETURNED)])
    record = store.list_cells(sweep.id).data[0]
    assert (record.state, record.attempts) == (CellState.PENDING, 0)


def test_a_failure_that_would_repeat_is_not_tried_again(store: Store) -> None:
    sweep = send(store, 1)
    store.report([ended(lease(store)[0], Ending.REFUSED, "too long")])
    assert states(store, sweep.id) == [CellState.FAILED]


def test_a_new_sweep_gives_a_failed_cell_a_new_chance(store: Store) -> None:
    first = send(store, 2)
    store.report([ended(lease(store)[0], Ending.REFUSED, "died")])
    second = send(store, 1)
    assert counts(store, first.id) == (2, 0, 0, 0)
    assert counts(store, second.id) == (1, 0, 0, 0)
    assert store.list_cells(second.id).data[0].attempts == 0
    complete(store, 2)
    assert counts(store, first.id) == (2, 2, 0, 0)


def test_a_sweep_that_has_ended_keeps_its_counts(store: Store) -> None:
    first = send(store, 1)
    store.report([ended(lease(store)[0], Ending.REFUSED, "died")])
    store.finish_sweep(first.id)
    send(store, 1)
    complete(store)
    assert counts(store, first.id) == (1, 0, 1, 0)
    assert kinds(store, first.id)[-1] == "sweep.completed"


def test_a_damaged_cell_takes_its_finalizing_sweep_back_to_work(store: Store) -> None:
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
        store.report([ended(held, Ending.FAILED, "aborted")])
    elif how == "release":
        store.report([ended(held, Ending.RETURNED)])
    elif how == "expire":
        clock.time += 31
        store.expire_leases()
    else:
        assert store.heartbeat([Beat(lease=held)], ttl=30) == [held]
    assert store.get_sweep(sweep.id).state is SweepState.CANCELLED


def test_a_cell_that_another_sweep_wants_goes_on_when_one_is_cancelled(store: Store) -> None:
    first, second = send(store, 1), send(store, 1)
    (held,) = lease(store)
    store.cancel_sweep(first.id)
    assert store.heartbeat([Beat(lease=held)], ttl=30) == []
    store.report([completed(held, FILE)])
    assert store.get_sweep(first.id).state is SweepState.CANCELLED
    assert store.get_sweep(second.id).state is SweepState.FINALIZING


def test_a_sweep_that_has_ended_or_is_finalizing_cannot_be_cancelled(store: Store) -> None:
    sweep = send(store, 1)
    complete(store)
    with pytest.raises(Conflict):
        store.cancel_sweep(sweep.id)
    store.finish_sweep(sweep.id)
    with pytest.raises(Conflict):
        store.cancel_sweep(sweep.id)


def test_a_pending_cell_takes_the_name_its_model_has_now(store: Store) -> None:
    first = store.create_sweep(name="n", spec={}, cells=[a_cell(0, model="old")])
    store.cancel_sweep(first.id)
    renamed: Cell = a_cell(0, model="tiny")
    assert renamed.id == a_cell(0, model="old").id
    store.create_sweep(name="n", spec={}, cells=[renamed])
    assert [held.cell.model for held in lease(store)] == ["tiny"]


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


# --- sharing


def one_by_one(store: Store, clock: ManualClock, count: int) -> list[int]:
    """Lease cells one at a time, each done before the next; return the sweeps' marks (their cells' seeds / 100)."""
    order = []
    for _ in range(count):
        clock.time += 1
        (held,) = lease(store)
        order.append(held.cell.seed // 100)
        store.report([completed(held, FILE)])
    return order


def test_a_small_sweep_does_not_wait_for_a_huge_one(store: Store, clock: ManualClock) -> None:
    send(store, 50, start=100)
    assert one_by_one(store, clock, 3) == [1, 1, 1]
    send(store, 2, start=200)
    assert one_by_one(store, clock, 5) == [2, 1, 2, 1, 1]


def test_users_share_the_engines_and_not_their_sweeps(store: Store, clock: ManualClock) -> None:
    for mark in (1, 2, 3):
        send(store, 20, start=100 * mark, owner="many")
    send(store, 20, start=400, owner="one")
    assert sorted(held.cell.seed // 100 for held in lease(store, 8)) == [1, 1, 2, 3, 4, 4, 4, 4]
    assert one_by_one(store, clock, 4).count(4) == 2


def test_cells_that_run_long_take_no_more_than_their_share(store: Store) -> None:
    send(store, 20, start=100, owner="long")
    assert len(lease(store, 6)) == 6
    send(store, 20, start=200, owner="short")
    assert [held.cell.seed // 100 for held in lease(store, 4)] == [2, 2, 2, 2]


def test_a_higher_priority_goes_first(store: Store) -> None:
    send(store, 3, start=100)
    send(store, 2, start=200, priority=5)
    send(store, 2, start=300, priority=-1)
    assert [held.cell.seed // 100 for held in lease(store, 9)] == [2, 2, 1, 1, 1, 3, 3]


def test_a_paused_sweep_gets_no_new_cells_and_keeps_those_that_run(store: Store) -> None:
    sweep = send(store, 3)
    (held,) = lease(store)
    assert store.pause_sweep(sweep.id).state is SweepState.PAUSED
    assert store.pause_sweep(sweep.id).state is SweepState.PAUSED
    assert lease(store, 9) == []
    assert store.heartbeat([Beat(lease=held)], ttl=30) == []
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


# --- progress


def test_progress_is_seen_in_the_sweep_the_cell_and_the_events(store: Store) -> None:
    sweep = send(store, 2)
    one, two = lease(store, 2)
    store.heartbeat([Beat(lease=one, samples=5), Beat(lease=two, samples=1)], ttl=30)
    store.heartbeat([Beat(lease=one, samples=8), Beat(lease=two, samples=1)], ttl=30)
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
    store.report([completed(one, FILE), ended(two, Ending.RETURNED)])
    assert store.get_sweep(sweep.id).samples == FILE.rows


# --- blame


def test_a_crash_in_company_is_nobodys_attempt_but_makes_suspects_that_run_alone(store: Store) -> None:
    sweep = send(store, 3)
    one, two = lease(store, 2)
    store.report([ended(held, Ending.SUSPECTED, "it died") for held in (one, two)])
    assert {(cell.attempts, cell.error) for cell in store.list_cells(sweep.id).data} == {(0, "it died"), (0, None)}
    (third,) = lease(store, 9)
    assert (third.cell.seed, third.alone) == (2, False)
    (alone,) = store.lease_cells("w", models=["tiny"], limit=9, ttl=30, alone=1)
    assert alone.alone
    assert alone.cell.id in (one.cell.id, two.cell.id)
    store.report([completed(alone, FILE)])
    (other,) = store.lease_cells("w", models=["tiny"], limit=9, ttl=30, alone=9)
    assert {alone.cell.id, other.cell.id} == {one.cell.id, two.cell.id}


def test_a_poison_cell_fails_alone_and_its_neighbours_do_not(store: Store) -> None:
    sweep = send(store, 4)
    store.report([ended(held, Ending.SUSPECTED, "it died") for held in lease(store, 4)])
    poison = a_cell(2).id
    for _ in range(100):
        found = store.lease_cells("w", models=["tiny"], limit=1, ttl=30, alone=1)
        if not found:
            break
        died = ended(found[0], Ending.SUSPECTED, "it died")
        store.report([died if found[0].cell.id == poison else completed(found[0], FILE)])
    cells = {cell.id: cell for cell in store.list_cells(sweep.id).data}
    assert (cells[poison].state, cells[poison].attempts) == (CellState.FAILED, MAX_ATTEMPTS)
    assert counts(store, sweep.id) == (4, 3, 1, 0)


# --- the end of results


FILES = SweepFiles(samples="1", summary="2")


def test_a_sweep_remembers_its_files(store: Store) -> None:
    sweep = send(store, 1)
    complete(store)
    assert store.finish_sweep(sweep.id, files=FILES).files == FILES
    assert store.get_sweep(sweep.id).files == FILES


def test_an_ended_sweep_whose_files_are_damaged_is_put_together_again(store: Store) -> None:
    sweep = send(store, 2)
    complete(store, 2)
    store.finish_sweep(sweep.id, files=FILES)
    store.reset_cell(a_cell(1).id, "lost too")
    again = store.reopen_sweep(sweep.id, "its samples are lost")
    assert (again.state, again.files, again.ended_at) == (SweepState.IN_PROGRESS, None, None)
    assert counts(store, sweep.id) == (2, 1, 0, 0)
    assert store.reopen_sweep(sweep.id, "lost").state is SweepState.IN_PROGRESS
    complete(store, 1)
    assert store.finish_sweep(sweep.id, files=FILES).state is SweepState.COMPLETED
    ids = [event.id for event in store.events(sweep.id)]
    assert ids == list(range(1, len(ids) + 1))


def test_a_cancelled_sweep_has_nothing_to_put_together(store: Store) -> None:
    sweep = send(store, 1)
    store.cancel_sweep(sweep.id)
    with pytest.raises(Conflict):
        store.reopen_sweep(sweep.id, "lost")


def test_results_expire_but_not_what_a_living_sweep_needs(store: Store, clock: ManualClock) -> None:
    old = send(store, 3)
    for held in lease(store, 3):
        name = f"{held.cell.seed}.parquet"
        store.report([completed(held, CellFile(name=name, rows=1, sha256="s"))])
    store.finish_sweep(old.id, files=FILES)
    clock.time += 100
    young = store.create_sweep(name="n", spec={}, cells=[a_cell(1), a_cell(7)])
    assert store.expire_results(clock.time - 100) == []
    assert store.expire_results(clock.time - 50) == [old.id]
    assert [store.has_expired(sweep_id) for sweep_id in (old.id, young.id, "none")] == [True, False, False]
    ids = [a_cell(number).id for number in range(3)]
    assert [store.cell_files(ids)[cell_id].file for cell_id in ids] == [None, "1.parquet", None]
    record = store.get_sweep(old.id)
    assert (record.state, record.files, record.expired_at) == (SweepState.COMPLETED, None, clock.time)
    assert store.expire_results(clock.time - 50) == []
    with pytest.raises(Conflict, match="expired"):
        store.reopen_sweep(old.id, "lost")
    assert counts(store, young.id) == (2, 1, 0, 1)
    assert counts(store, send(store, 3).id) == (3, 1, 0, 1), "what expired is computed again"


def test_the_files_of_cells_are_known_by_epoch(store: Store) -> None:
    send(store, 2)
    one, two = lease(store, 2)
    store.report([completed(one, FILE)])
    known = store.cell_files([one.cell.id, two.cell.id, "cell_none"])
    assert {cell_id: (at.file, at.epoch, at.leased) for cell_id, at in known.items()} == {
        one.cell.id: (FILE.name, 1, False),
        two.cell.id: (None, 1, True),
    }


def test_the_census_counts_sweeps_cells_leases_and_who_waits(store: Store, clock: ManualClock) -> None:
    assert store.census().oldest_waiting is None
    first = send(store, 3)
    complete(store)
    clock.time += 10
    send(store, 3)  # all of them those of the first
    held = lease(store, owner="w1")
    census = store.census()
    assert census.sweeps == {"in_progress": 2}
    assert census.cells == {"completed": 1, "leased": 1, "pending": 1}
    assert census.leases == {"w1": 1}
    assert (census.cells_asked, census.cells_reused) == (6, 1)
    assert census.oldest_waiting == first.created_at
    assert census.longest_unserved is not None
    assert first.created_at <= census.longest_unserved <= clock.time
    store.cancel_sweep(first.id)
    assert store.census().oldest_waiting == clock.time, "what is being cancelled does not wait"
    lease(store, 5)
    assert store.census().oldest_waiting is None, "nothing waits once all is leased"
    assert [one.cell.id for one in held]


def test_a_lease_says_for_which_sweeps_it_is_and_how_often_the_cell_was_tried(store: Store, clock: ManualClock) -> None:
    first, second = send(store, 1), send(store, 1)
    (held,) = lease(store)
    assert (held.sweep_ids, held.tries) == ((first.id, second.id), 1)
    store.report([ended(held, Ending.FAILED, "oops")])
    (again,) = lease(store)
    assert again.tries == 2
    clock.time += 31
    assert store.expire_leases() == 1
    (third,) = lease(store)
    assert third.tries == 3
    store.cancel_sweep(first.id)
    store.report([ended(third, Ending.RETURNED)])
    (fourth,) = lease(store)
    assert (fourth.sweep_ids, fourth.tries) == ((second.id,), 3)
