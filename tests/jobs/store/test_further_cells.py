"""Contract of every store: sweeps that are extended by further cells."""

from __future__ import annotations

import pytest

from ampsweep.errors import Conflict, NotFound
from jobs.store.protocol import Store
from jobs.store.records import CellOutcome
from jobs.store.transitions import CellState, SweepState
from tests.jobs.cluster import a_cell, completed, ended
from tests.jobs.store.calls import FILE, complete, counts, finish, kinds, lease, leased, send


def test_a_finalizing_sweep_takes_further_cells_after_its_own(store: Store) -> None:
    sweep = send(store, 2)
    complete(store, 2)
    assert store.get_sweep(sweep.id).state is SweepState.FINALIZING
    further = [a_cell(7), a_cell(8)]
    assert store.extend_sweep(leased(store, sweep.id), further).state is SweepState.IN_PROGRESS
    assert counts(store, sweep.id) == (4, 2, 0, 0)
    assert [record.cell for record in store.list_cells(sweep.id).data] == [a_cell(0), a_cell(1), *further]
    assert kinds(store, sweep.id)[-2:] == ["sweep.finalizing", "sweep.in_progress"]
    assert store.events(sweep.id)[-1].data["request_counts"]["total"] == 4
    assert [held.cell for held in lease(store, 9)] == further


def test_it_ends_when_they_have_and_may_be_extended_again(store: Store) -> None:
    sweep = send(store, 1)
    complete(store, 1)
    for number in (7, 8):
        store.extend_sweep(leased(store, sweep.id), [a_cell(number)])
        complete(store, 1)
        assert store.get_sweep(sweep.id).state is SweepState.FINALIZING
    assert counts(store, sweep.id) == (3, 3, 0, 0)
    assert [record.cell for record in store.list_cells(sweep.id).data] == [a_cell(0), a_cell(7), a_cell(8)]
    assert finish(store, sweep.id).state is SweepState.COMPLETED


def test_cells_that_are_done_are_reused_and_the_sweep_is_finalizing_again(store: Store) -> None:
    send(store, 2, start=7)
    complete(store, 2)
    sweep = send(store, 1)
    complete(store, 1)
    assert store.extend_sweep(leased(store, sweep.id), [a_cell(7), a_cell(8)]).state is SweepState.FINALIZING
    assert counts(store, sweep.id) == (3, 3, 0, 2)
    assert store.get_sweep(sweep.id).samples == 3 * FILE.rows


def test_a_cell_that_another_sweep_runs_counts_for_both_and_a_failed_one_gets_a_new_chance(store: Store) -> None:
    sweep = send(store, 1)
    complete(store, 1)
    send(store, 2, start=7)
    running, failing = lease(store, 2)
    store.report([ended(failing, CellOutcome.REJECTED, "it broke")])
    store.extend_sweep(leased(store, sweep.id), [running.cell, failing.cell])
    assert counts(store, sweep.id) == (3, 1, 0, 0)
    store.report([completed(running, FILE)])
    assert counts(store, sweep.id) == (3, 2, 0, 0)
    complete(store, 1)
    assert counts(store, sweep.id) == (3, 3, 0, 0)
    assert store.get_sweep(sweep.id).state is SweepState.FINALIZING


def test_only_a_finalizing_sweep_takes_further_cells(store: Store) -> None:
    sweep = send(store, 1)
    other = [a_cell(7)]
    for paused in (False, True):
        if paused:
            store.pause_sweep(sweep.id)
        with pytest.raises(Conflict, match="must be finalizing"):
            store.extend_sweep(leased(store, sweep.id), other)
    store.resume_sweep(sweep.id)
    complete(store, 1)
    finish(store, sweep.id)
    with pytest.raises(Conflict):
        store.extend_sweep(leased(store, sweep.id), other)
    assert counts(store, sweep.id) == (1, 1, 0, 0)
    assert store.cell_files([a_cell(7).id]) == {}, "nothing was written"
    with pytest.raises(NotFound):
        store.extend_sweep(leased(store, "sweep_none"), other)


def test_a_lost_cell_of_an_early_rung_is_computed_again_at_the_end(store: Store) -> None:
    sweep = send(store, 1)
    complete(store, 1)
    store.extend_sweep(leased(store, sweep.id), [a_cell(7)])
    complete(store, 1)
    store.reset_cell(a_cell(0).id, "lost")
    assert store.get_sweep(sweep.id).state is SweepState.IN_PROGRESS
    assert [record.state for record in store.list_cells(sweep.id).data] == [CellState.PENDING, CellState.COMPLETED]
