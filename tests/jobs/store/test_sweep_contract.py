"""Contract of every store: sweeps are stored, listed, changed and ended."""

from __future__ import annotations

from typing import Any

import pytest

from ampsweep.errors import Conflict, InvalidRequest, NotFound
from jobs.cell import Cell
from jobs.store.protocol import Store
from jobs.store.records import CellOutcome, Lease
from jobs.store.transitions import CellState, SweepState
from tests.jobs.cluster import ManualClock, a_cell, ended
from tests.jobs.store.calls import FILE, complete, counts, finish, kinds, lease, send


def test_a_sweep_is_in_progress_when_it_is_stored(store: Store, clock: ManualClock) -> None:
    sweep = send(store, 3)
    assert (sweep.state, sweep.name, sweep.spec) == (SweepState.IN_PROGRESS, "n", {"a": 1})
    assert (sweep.created_at, sweep.ended_at, sweep.error) == (clock.time, None, None)
    assert counts(store, sweep.id) == (3, 0, 0, 0)
    assert store.get_sweep(sweep.id) == sweep


def test_the_warnings_of_a_plan_are_kept_with_its_sweep(store: Store) -> None:
    sweep = send(store, idempotency_key="k", warnings=["tasks.0: few facts", "tasks.1: ids repeat"])
    assert sweep.warnings == ("tasks.0: few facts", "tasks.1: ids repeat")
    assert store.get_sweep(sweep.id).warnings == store.list_sweeps().data[0].warnings == sweep.warnings
    assert send(store, idempotency_key="k").warnings == sweep.warnings
    assert send(store, 1, start=5).warnings == ()


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


def test_sweeps_are_renamed_tagged_and_found_by_both(store: Store) -> None:
    first, second, third = (send(store).id for _ in range(3))
    renamed = store.update_sweep(first, name="Qwen 100%", tags=["paper", "b-side"])
    assert (renamed.name, renamed.tags, renamed.spec) == ("Qwen 100%", ("b-side", "paper"), {"a": 1})
    assert store.update_sweep(first).name == "Qwen 100%", "what is not given is kept"
    assert store.update_sweep(second, tags=["paper"]).name == "n"
    assert store.get_sweep(second).tags == ("paper",)

    def found(**filters: Any) -> list[str]:
        return [sweep.id for sweep in store.list_sweeps(**filters).data]

    assert [sweep.tags for sweep in store.list_sweeps().data] == [(), ("paper",), ("b-side", "paper")]
    assert found(tags=["paper"]) == [second, first]
    assert found(tags=["paper", "b-side"]) == [first]
    assert found(tags=["PAPER"]) == []
    assert found(text="qWEN 100%") == [first]
    assert found(text="0%0") == found(text="sweep__") == [], "% and _ stand for themselves"
    assert found(text="TINY", tags=["paper"], limit=1) == [second]
    assert found(text="TINY", tags=["paper"], after=second) == [first]
    assert found(text=third) == [third]
    store.update_sweep(third, name="Überblick ИТОГ")
    assert found(text="übERBLICK итог") == [third]
    assert store.update_sweep(first, tags=[]).tags == ()
    assert found(tags=["paper"]) == [second]


def test_a_renamed_sweep_still_belongs_to_its_key(store: Store) -> None:
    sweep = send(store, idempotency_key="k")
    store.update_sweep(sweep.id, name="new", tags=["t"])
    again = store.sweep_of_key("k", {"a": 1})
    assert again is not None
    assert (again.id, again.name, again.tags) == (sweep.id, "new", ("t",))


@pytest.mark.parametrize(
    "ask",
    [
        *("get_sweep", "list_cells", "events", "cancel_sweep", "pause_sweep", "resume_sweep"),
        *("update_sweep", "delete_sweep"),
    ],
)
def test_unknown_sweeps_and_cells_are_not_found(store: Store, ask: str) -> None:
    with pytest.raises(NotFound):
        getattr(store, ask)("sweep_none")
    with pytest.raises(NotFound):
        finish(store, "sweep_none")


def test_an_unknown_cursor_is_not_found(store: Store) -> None:
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
    with pytest.raises(InvalidRequest) as caught:
        store.sweep_of_key("k", {"a": 2})
    assert caught.value.param == "Idempotency-Key"


def test_a_sweep_is_found_by_its_key(store: Store) -> None:
    first = send(store, idempotency_key="k")
    assert store.sweep_of_key("k", {"a": 1}) == first
    assert store.sweep_of_key("other", {"a": 1}) is None


def test_a_completed_sweep_goes_through_finalizing(store: Store, clock: ManualClock) -> None:
    sweep = send(store, 2)
    complete(store)
    assert store.finalizing() == []
    complete(store)
    assert store.finalizing() == [sweep.id]
    clock.time += 5
    ended = finish(store, sweep.id)
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
    finish(store, sweep.id)
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
    ended = finish(store, sweep.id, error="the disk is full")
    assert (ended.state, ended.error) == (SweepState.FAILED, "the disk is full")
    assert store.events(sweep.id)[-1].data["error"] == "the disk is full"


@pytest.mark.parametrize("error", [None, "the disk is full"])
def test_a_sweep_in_progress_cannot_be_finished(store: Store, error: str | None) -> None:
    sweep = send(store)
    with pytest.raises(Conflict):
        finish(store, sweep.id, error=error)
    assert store.get_sweep(sweep.id).state is SweepState.IN_PROGRESS


def test_a_sweep_that_has_ended_keeps_its_counts(store: Store) -> None:
    first = send(store, 1)
    store.report([ended(lease(store)[0], CellOutcome.REJECTED, "died")])
    finish(store, first.id)
    send(store, 1)
    complete(store)
    assert counts(store, first.id) == (1, 0, 1, 0)
    assert kinds(store, first.id)[-1] == "sweep.completed"


def test_a_pending_cell_takes_the_name_its_model_has_now(store: Store) -> None:
    first = store.create_sweep(name="n", spec={}, cells=[a_cell(0, model="old")])
    store.cancel_sweep(first.id)
    renamed: Cell = a_cell(0, model="tiny")
    assert renamed.id == a_cell(0, model="old").id
    store.create_sweep(name="n", spec={}, cells=[renamed])
    assert [held.cell.model for held in lease(store)] == ["tiny"]


@pytest.mark.parametrize("quarantined", [False, True])
def test_a_cell_is_leased_under_the_name_that_the_model_has_in_a_sweep_that_needs_it(
    store: Store, quarantined: bool
) -> None:
    """Two servers offer one model under different names; none of them passes over a cell that both sweeps need."""
    cells = [a_cell(number, model="old") for number in range(3)]
    first = store.create_sweep(name="n", spec={}, cells=cells)
    if quarantined:
        (held,) = store.lease_cells("w", models=["old"], limit=1, ttl=30)
        store.report([ended(held, CellOutcome.SUSPECT, "the engine died")])
    second = store.create_sweep(name="n", spec={}, cells=[a_cell(0, model="new")])
    assert lease_of(store, "other") == []
    (held,) = lease_of(store, "old", limit=1)
    assert (held.cell, held.exclusive, held.sweep_ids) == (cells[0], quarantined, (first.id, second.id))
    store.report([ended(held, CellOutcome.RELEASED)])
    (held,) = lease_of(store, "new")
    assert held.cell == a_cell(0, model="new")
    store.report([ended(held, CellOutcome.RELEASED)])
    store.cancel_sweep(second.id)
    assert [held.cell for held in lease_of(store, "old")] == cells
    assert [record.cell for record in store.list_cells(first.id).data] == cells


def lease_of(store: Store, model: str, *, limit: int = 9) -> list[Lease]:
    return store.lease_cells("w", models=[model], limit=limit, ttl=30, exclusive=1)
