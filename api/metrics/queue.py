"""The queue in numbers: what the store holds, and what this server's dispatcher has done with it."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import Metric

from api.metrics.collectors import counter, gauge
from jobs.dispatcher_stats import DispatcherStats
from jobs.store.records import CellOutcome, StoreStats
from jobs.store.transitions import CellState, SweepState


def queue_metrics(stats: StoreStats, *, now: float) -> Iterator[Metric]:
    """Yield what the store holds; servers that share a store say the same. `now` is in seconds since the epoch."""
    yield gauge(
        "ampsweep_queue_cells",
        "Cells in the store, by state.",
        {(state.value,): stats.cells.get(state.value, 0) for state in CellState},
        ("state",),
    )
    yield gauge(
        "ampsweep_queue_sweeps",
        "Sweeps in the store, by status.",
        {(state.value,): stats.sweeps.get(state.value, 0) for state in SweepState},
        ("status",),
    )
    yield gauge(
        "ampsweep_queue_leases",
        "Cells that are leased, by the server that has them.",
        {(owner,): count for owner, count in stats.leases.items()},
        ("owner",),
    )
    yield gauge(
        "ampsweep_queue_oldest_pending_seconds",
        "Age of the oldest sweep in progress that has cells waiting; 0 where none waits.",
        _ago(stats.oldest_waiting, now),
    )
    yield gauge(
        "ampsweep_queue_unserved_seconds",
        "Longest time that a sweep with cells waiting has had none leased; 0 where none waits.",
        _ago(stats.longest_unserved, now),
    )
    yield counter("ampsweep_queue_cells_asked", "Cells of all sweeps that were ever sent.", stats.cells_asked)
    yield counter(
        "ampsweep_queue_cells_reused",
        "Cells among those asked for that had been computed before.",
        stats.cells_reused,
    )


def dispatcher_metrics(dispatcher_stats: DispatcherStats) -> Iterator[Metric]:
    """Yield what this server's dispatcher has done since it began."""
    yield counter("ampsweep_dispatcher_leases", "Cells leased by this server.", dispatcher_stats.leased)
    yield counter("ampsweep_dispatcher_retries", "Cells leased that had been tried before.", dispatcher_stats.retried)
    yield counter(
        "ampsweep_dispatcher_cells_ended",
        "Cells whose work ended, by how.",
        {(outcome.value,): dispatcher_stats.outcomes[outcome] for outcome in CellOutcome},
        ("ending",),
    )
    yield counter("ampsweep_dispatcher_samples", "Samples of the cells that were completed.", dispatcher_stats.samples)
    yield counter(
        "ampsweep_dispatcher_leases_expired", "Leases that ran out and were taken back.", dispatcher_stats.expired
    )
    yield counter(
        "ampsweep_dispatcher_late_writes", "Ends of work under a lease that had passed.", dispatcher_stats.late
    )
    yield counter(
        "ampsweep_dispatcher_sweeps_finalized", "Sweeps whose results were put together.", dispatcher_stats.finalized
    )


def _ago(time: float | None, now: float) -> float:
    return 0.0 if time is None else max(0.0, now - time)
