"""Metrics of the engines: their state, their work and their load."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prometheus_client import Metric

from api.metrics.collectors import Labels, counter, gauge
from jobs.execution import EngineMetrics

_LABELS = ("model", "engine")
_STATES = ("starting", "ready", "failed")
_OWN_METRICS = (
    (counter, "starts", "starts", "Successful starts of engines."),
    (counter, "failed_starts", "failed_starts", "Failed starts of engines."),
    (
        gauge,
        "failures",
        "failures_in_a_row",
        "Consecutive times that the engine failed to start, or ended before it was healthy for long.",
    ),
    (gauge, "supervised", "supervised", "1 while the engine's supervisor, which restarts it, is running."),
    (counter, "deaths", "deaths", "Engines that ended while they were in use."),
    (gauge, "cells", "cells", "Cells in flight."),
    (gauge, "streams", "streams", "Completions and identifications in flight."),
)
"""Metrics of `EngineMetrics`: kind, field, name of the metric, help text."""
_COUNTERS = {
    "prompt_tokens": ("prompt_tokens", "Prompt tokens that were processed, including cached ones."),
    "cached_tokens": ("cached_prompt_tokens", "Prompt tokens that were found in the prefix cache."),
    "generated_tokens": ("generated_tokens", "Tokens that were generated."),
    "steps": ("steps", "Forward passes."),
    "step_requests": ("step_requests", "Requests summed over forward passes; divided by steps, the mean batch size."),
}
"""Counters of `EngineStats`: field, name of the metric, help text."""
_GAUGES = {
    "running": ("requests_running", "Requests in the batch."),
    "waiting": ("requests_waiting", "Requests that wait for room in the batch."),
    "batch_size": ("batch_size", "Maximum number of requests in the batch."),
    "kv_use": ("kv_use_ratio", "Share of the KV cache's blocks in use, 0 to 1."),
    "slots": ("slots", "Slots for distinct interventions."),
    "slots_used": ("slots_used", "Slots that hold an intervention."),
    "slots_waiting": ("slots_waiting", "Requests that wait for a slot."),
}
"""Gauges of `EngineStats`: field, name of the metric, help text."""


def engine_metrics(engines: Sequence[EngineMetrics]) -> Iterator[Metric]:
    """Yield the metrics of the engines. An engine that does not answer now has no samples of its own statistics."""
    by_labels: dict[Labels, EngineMetrics] = {(engine.model, str(engine.index)): engine for engine in engines}
    yield gauge(
        "ampsweep_engine_state",
        "1 for the state that an engine is in.",
        {(*labels, state): float(engine.state == state) for labels, engine in by_labels.items() for state in _STATES},
        (*_LABELS, "state"),
    )
    for kind, field, name, help_text in _OWN_METRICS:
        own = {labels: float(getattr(engine, field)) for labels, engine in by_labels.items()}
        yield kind(f"ampsweep_engine_{name}", help_text, own, _LABELS)
    stats = {labels: engine.stats for labels, engine in by_labels.items() if engine.stats is not None}
    for field, (name, help_text) in _COUNTERS.items():
        yield counter(
            f"ampsweep_engine_{name}", help_text, {labels: values[field] for labels, values in stats.items()}, _LABELS
        )
    for field, (name, help_text) in _GAUGES.items():
        values_by_labels = {labels: values[field] for labels, values in stats.items() if field in values}
        yield gauge(f"ampsweep_engine_{name}", help_text, values_by_labels, _LABELS)
