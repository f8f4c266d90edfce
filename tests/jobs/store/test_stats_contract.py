"""Contract of every store: statistics of sweeps, cells and leases."""

from __future__ import annotations

from jobs.store.protocol import Store
from tests.jobs.cluster import ManualClock
from tests.jobs.store.calls import complete, lease, send


def test_the_statistics_count_sweeps_cells_leases_and_who_waits(store: Store, clock: ManualClock) -> None:
    assert store.stats().oldest_waiting is None
    first = send(store, 3)
    complete(store)
    clock.time += 10
    send(store, 3)  # all of them those of the first
    held = lease(store, owner="w1")
    stats = store.stats()
    assert stats.sweeps == {"in_progress": 2}
    assert stats.cells == {"completed": 1, "leased": 1, "pending": 1}
    assert stats.leases == {"w1": 1}
    assert (stats.cells_asked, stats.cells_reused) == (6, 1)
    assert stats.oldest_waiting == first.created_at
    assert stats.longest_unserved is not None
    assert first.created_at <= stats.longest_unserved <= clock.time
    store.cancel_sweep(first.id)
    assert store.stats().oldest_waiting == clock.time, "what is being cancelled does not wait"
    lease(store, 5)
    assert store.stats().oldest_waiting is None, "nothing waits once all is leased"
    assert [one.cell.id for one in held]
