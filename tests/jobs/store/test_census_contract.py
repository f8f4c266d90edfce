"""What every store counts of sweeps, cells and leases, for those who watch it."""

from __future__ import annotations

from jobs.store.protocol import Store
from tests.jobs.store.calls import complete, lease, send
from tests.jobs.world import ManualClock


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
