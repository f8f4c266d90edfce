"""Metrics of the queue: the sweeps and cells in the store, and the work of this server's dispatcher."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import Metric

from api.metrics.collectors import counter, gauge
from jobs.execution import DispatcherStats
from jobs.store.records import CellOutcome, StoreStats
from jobs.store.transitions import CellState, SweepState


def queue_metrics(stats: StoreStats, *, now: float) -> Iterator[Metric]:
    """Yield the metrics of the store; they are equal on all servers that share it.

    Args:
        stats: The counts of the store.
        now: The current time, in seconds since the epoch.
    """
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
        "Leased cells, by the server that holds the lease.",
        {(owner,): count for owner, count in stats.leases.items()},
        ("owner",),
    )
    yield gauge(
        "ampsweep_queue_oldest_pending_seconds",
        "Age of the oldest sweep in progress that has pending cells; 0 if none has.",
        _age(stats.oldest_waiting, now),
    )
    yield gauge(
        "ampsweep_queue_unserved_seconds",
        "Longest time that a sweep with pending cells has had no cell leased; 0 if there is none.",
        _age(stats.longest_unserved, now),
    )
    yield counter("ampsweep_queue_cells_asked", "Cells of all sweeps that were ever submitted.", stats.cells_asked)
    yield counter(
        "ampsweep_queue_cells_reused",
        "Cells of submitted sweeps that had been computed before.",
        stats.cells_reused,
    )


def dispatcher_metrics(dispatcher_stats: DispatcherStats) -> Iterator[Metric]:
    """Yield the metrics of this server's dispatcher, counted since it started."""
    yield counter("ampsweep_dispatcher_leases", "Cells leased by this server.", dispatcher_stats.leased)
    yield counter("ampsweep_dispatcher_retries", "Leased cells that had been tried before.", dispatcher_stats.retried)
    yield counter(
        "ampsweep_dispatcher_cells_ended",
        "Cells that ended on this server, by outcome.",
        {(outcome.value,): dispatcher_stats.outcomes[outcome] for outcome in CellOutcome},
        ("ending",),
    )
    yield counter("ampsweep_dispatcher_samples", "Samples of completed cells.", dispatcher_stats.samples)
    yield counter("ampsweep_dispatcher_leases_expired", "Leases that expired.", dispatcher_stats.expired)
    yield counter(
        "ampsweep_dispatcher_late_writes", "Reports for leases that were no longer valid.", dispatcher_stats.late
    )
    yield counter("ampsweep_dispatcher_sweeps_finalized", "Sweeps that were finalized.", dispatcher_stats.finalized)


def _age(time: float | None, now: float) -> float:
    return 0.0 if time is None else max(0.0, now - time)
