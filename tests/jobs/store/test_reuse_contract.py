"""Contract of every store: cells that several sweeps share."""

from __future__ import annotations

from jobs.store.protocol import Store
from jobs.store.records import CellOutcome, Heartbeat
from jobs.store.transitions import SweepState
from tests.jobs.cluster import a_cell, completed, ended
from tests.jobs.store.calls import ALL_FAILED, FILE, HALF_FAILED, complete, counts, kinds, lease, leased, send


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
    store.report([ended(lease(store)[0], CellOutcome.REJECTED, "died")])
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
    assert store.heartbeat([Heartbeat(lease=held)], ttl=30) == []
    store.report([completed(held, FILE)])
    assert store.get_sweep(first.id).state is SweepState.CANCELLED
    assert store.get_sweep(second.id).state is SweepState.FINALIZING


def test_a_new_sweep_computes_a_cell_anew_all_of_whose_samples_failed(store: Store) -> None:
    first = send(store, 1)
    complete(store, file=ALL_FAILED)
    assert store.get_sweep(first.id).failed_samples == 2
    second = send(store, 1)
    assert counts(store, second.id) == (1, 0, 0, 0)
    assert counts(store, first.id) == (1, 0, 0, 0), "it is not at its end yet, and goes on with the new answer"
    (record,) = store.list_cells(second.id).data
    assert (record.file, record.attempts, record.failed_samples, record.sample_error) == (None, 0, 0, None)
    complete(store)
    assert [store.get_sweep(sweep.id).failed_samples for sweep in (first, second)] == [0, 0]


def test_a_cell_some_of_whose_samples_failed_is_reused_and_says_so(store: Store) -> None:
    send(store, 2)
    complete(store, file=HALF_FAILED)
    second = send(store, 2)
    assert counts(store, second.id) == (2, 1, 0, 1)
    assert second.failed_samples == 1
    first, other = store.list_cells(second.id).data
    assert (first.failed_samples, first.sample_error, other.failed_samples) == (1, "too long", 0)


def test_a_search_computes_a_further_cell_anew_all_of_whose_samples_failed(store: Store) -> None:
    send(store, 1, start=5)
    complete(store, file=ALL_FAILED)
    searched = send(store, 1)
    complete(store)
    extended = store.extend_sweep(leased(store, searched.id), [a_cell(5)])
    assert (extended.request_counts.completed, extended.request_counts.reused) == (1, 0)


def test_the_cells_that_failed_or_have_failed_samples_can_be_listed_alone(store: Store) -> None:
    sweep = send(store, 5)
    store.report([ended(lease(store)[0], CellOutcome.REJECTED, "died")])
    complete(store)
    complete(store, 2, file=HALF_FAILED)
    failing = store.list_cells(sweep.id, only_failures=True)
    assert [(cell.error, cell.failed_samples) for cell in failing.data] == [("died", 0), (None, 1), (None, 1)]
    page = store.list_cells(sweep.id, only_failures=True, after=failing.data[0].id, limit=1)
    assert (page.data, page.has_more) == (failing.data[1:2], True)


def test_the_first_reason_is_that_of_the_first_failing_cell_in_the_plan(store: Store) -> None:
    failing = send(store, 4)
    complete(store)
    store.report([ended(held, CellOutcome.REJECTED, f"died at {held.cell.seed}") for held in lease(store, 3)])
    samples = send(store, 2, start=5)
    complete(store)
    complete(store, file=HALF_FAILED)
    intact = send(store, 1, start=9)
    complete(store)
    ids = [intact.id, samples.id, failing.id, "sweep_unknown"]
    assert store.first_reasons(ids) == {failing.id: "died at 1", samples.id: "too long"}
    assert store.first_reasons([]) == {}


def test_events_count_failed_samples(store: Store) -> None:
    sweep = send(store, 1)
    complete(store, file=HALF_FAILED)
    assert [event.data["failed_samples"] for event in store.events(sweep.id)] == [0, 1, 1]
