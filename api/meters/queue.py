"""The queue in numbers: what the store holds, and what this server's dispatcher has done with it."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import Metric

from api.meters.families import counter, gauge
from jobs.store.records import Census, Ending
from jobs.store.states import CellState, SweepState
from jobs.tally import Tally


def queue_families(census: Census, *, now: float) -> Iterator[Metric]:
    """Yield what the store holds; servers that share a store say the same. `now` is in seconds since the epoch."""
    yield gauge(
        "ampsweep_queue_cells",
        "Cells in the store, by state.",
        {(state.value,): census.cells.get(state.value, 0) for state in CellState},
        ("state",),
    )
    yield gauge(
        "ampsweep_queue_sweeps",
        "Sweeps in the store, by status.",
        {(state.value,): census.sweeps.get(state.value, 0) for state in SweepState},
        ("status",),
    )
    yield gauge(
        "ampsweep_queue_leases",
        "Cells that are leased, by the server that has them.",
        {(owner,): count for owner, count in census.leases.items()},
        ("owner",),
    )
    yield gauge(
        "ampsweep_queue_oldest_pending_seconds",
        "Age of the oldest sweep in progress that has cells waiting; 0 where none waits.",
        _ago(census.oldest_waiting, now),
    )
    yield gauge(
        "ampsweep_queue_unserved_seconds",
        "Longest time that a sweep with cells waiting has had none leased; 0 where none waits.",
        _ago(census.longest_unserved, now),
    )
    yield counter("ampsweep_queue_cells_asked", "Cells of all sweeps that were ever sent.", census.cells_asked)
    yield counter(
        "ampsweep_queue_cells_reused",
        "Cells among those asked for that had been computed before.",
        census.cells_reused,
    )


def tally_families(tally: Tally) -> Iterator[Metric]:
    """Yield what this server's dispatcher has done since it began."""
    yield counter("ampsweep_dispatcher_leases", "Cells leased by this server.", tally.leased)
    yield counter("ampsweep_dispatcher_retries", "Cells leased that had been tried before.", tally.retried)
    yield counter(
        "ampsweep_dispatcher_cells_ended",
        "Cells whose work ended, by how.",
        {(ending.value,): tally.endings[ending] for ending in Ending},
        ("ending",),
    )
    yield counter("ampsweep_dispatcher_samples", "Samples of the cells that were completed.", tally.samples)
    yield counter("ampsweep_dispatcher_leases_expired", "Leases that ran out and were taken back.", tally.expired)
    yield counter("ampsweep_dispatcher_late_writes", "Ends of work under a lease that had passed.", tally.late)
    yield counter("ampsweep_dispatcher_sweeps_finalized", "Sweeps whose results were put together.", tally.finalized)


def _ago(time: float | None, now: float) -> float:
    return 0.0 if time is None else max(0.0, now - time)
