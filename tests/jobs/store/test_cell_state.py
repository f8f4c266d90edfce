"""Contract of every store: failed cells, and cells whose engine died."""

from __future__ import annotations

from jobs.store.cell_state import MAX_ATTEMPTS
from jobs.store.protocol import Store
from jobs.store.records import CellOutcome
from jobs.store.transitions import CellState
from tests.jobs.cluster import a_cell, completed, ended
from tests.jobs.store.calls import FILE, counts, kinds, lease, send, states


def test_a_cell_is_tried_as_often_as_allowed_and_then_fails(store: Store) -> None:
    sweep = send(store, 1)
    for attempt in range(1, MAX_ATTEMPTS + 1):
        (held,) = lease(store)
        store.report([ended(held, CellOutcome.FAILED, f"attempt {attempt}")])
    record = store.list_cells(sweep.id).data[0]
    assert (record.state, record.attempts, record.error) == (CellState.FAILED, MAX_ATTEMPTS, f"attempt {MAX_ATTEMPTS}")
    assert counts(store, sweep.id) == (1, 0, 1, 0)
    assert store.finalizing() == [sweep.id]
    retrying = ["cell.retrying"] * (MAX_ATTEMPTS - 1)
    assert kinds(store, sweep.id) == ["sweep.created", *retrying, "cell.failed", "sweep.finalizing"]


def test_a_failure_that_would_repeat_is_not_tried_again(store: Store) -> None:
    sweep = send(store, 1)
    store.report([ended(lease(store)[0], CellOutcome.REJECTED, "too long")])
    assert states(store, sweep.id) == [CellState.FAILED]


def test_a_shared_crash_counts_as_no_attempt_and_quarantines_the_cells(store: Store) -> None:
    sweep = send(store, 3)
    one, two = lease(store, 2)
    store.report([ended(held, CellOutcome.SUSPECT, "it died") for held in (one, two)])
    assert {(cell.attempts, cell.error) for cell in store.list_cells(sweep.id).data} == {(0, "it died"), (0, None)}
    (third,) = lease(store, 9)
    assert (third.cell.seed, third.exclusive) == (2, False)
    (exclusive,) = store.lease_cells("w", models=["tiny"], limit=9, ttl=30, exclusive=1)
    assert exclusive.exclusive
    assert exclusive.cell.id in (one.cell.id, two.cell.id)
    store.report([completed(exclusive, FILE)])
    (other,) = store.lease_cells("w", models=["tiny"], limit=9, ttl=30, exclusive=9)
    assert {exclusive.cell.id, other.cell.id} == {one.cell.id, two.cell.id}


def test_a_poison_cell_fails_alone_and_its_neighbours_do_not(store: Store) -> None:
    sweep = send(store, 4)
    store.report([ended(held, CellOutcome.SUSPECT, "it died") for held in lease(store, 4)])
    poison = a_cell(2).id
    for _ in range(100):
        leases = store.lease_cells("w", models=["tiny"], limit=1, ttl=30, exclusive=1)
        if not leases:
            break
        died = ended(leases[0], CellOutcome.SUSPECT, "it died")
        store.report([died if leases[0].cell.id == poison else completed(leases[0], FILE)])
    cells = {cell.id: cell for cell in store.list_cells(sweep.id).data}
    assert (cells[poison].state, cells[poison].attempts) == (CellState.FAILED, MAX_ATTEMPTS)
    assert counts(store, sweep.id) == (4, 3, 1, 0)
