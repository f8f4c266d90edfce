"""Contract of every store: fair share between users and sweeps."""

from __future__ import annotations

from jobs.store.protocol import Store
from jobs.store.sql.store import SqlStore
from tests.jobs.cluster import ManualClock, completed
from tests.jobs.store.calls import FILE, lease, send


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


def test_a_clock_that_is_set_back_gives_no_user_all_turns(sql_store: SqlStore, clock: ManualClock) -> None:
    clock.time = 10_000
    send(sql_store, 20, start=100, owner="one")
    assert one_by_one(sql_store, clock, 2) == [1, 1]
    clock.time -= 3600
    send(sql_store, 20, start=200, owner="other")
    assert one_by_one(sql_store, clock, 6) == [2, 1, 2, 1, 2, 1]
