"""The engines in numbers: how they fare, what they have done, how full they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prometheus_client import Metric

from api.metrics.collectors import Labels, counter, gauge
from jobs.execution import EngineMetrics

_PLACE = ("model", "engine")
_STATES = ("starting", "ready", "failed")
_COUNTED = {
    "prompt_tokens": ("prompt_tokens", "Tokens of the prompts that engines have read, cached ones too."),
    "cached_tokens": ("cached_prompt_tokens", "Tokens of prompts that were found in the prefix cache."),
    "generated_tokens": ("generated_tokens", "Tokens that were generated."),
    "steps": ("steps", "Forward passes."),
    "step_requests": ("step_requests", "Requests in a forward pass, added up: by steps, the mean batch."),
}
_HELD = {
    "running": ("requests_running", "Requests in the batch."),
    "waiting": ("requests_waiting", "Requests that wait for room in the batch."),
    "batch_size": ("batch_size", "Requests that the batch has room for."),
    "kv_use": ("kv_use_ratio", "Share of the KV cache's blocks in use, 0 to 1."),
    "slots": ("slots", "Slots for distinct interventions."),
    "slots_used": ("slots_used", "Slots that hold an intervention."),
    "slots_waiting": ("slots_waiting", "Requests that wait for a slot."),
}


def engine_metrics(engines: Sequence[EngineMetrics]) -> Iterator[Metric]:
    """Yield the engines' families; one that does not answer now has none of its own numbers."""
    at: dict[Labels, EngineMetrics] = {(one.model, str(one.index)): one for one in engines}
    yield gauge(
        "ampsweep_engine_state",
        "1 for the state that an engine is in.",
        {(*place, state): float(one.state == state) for place, one in at.items() for state in _STATES},
        (*_PLACE, "state"),
    )
    starts = {place: float(one.starts) for place, one in at.items()}
    yield counter("ampsweep_engine_starts", "Engines that came up.", starts, _PLACE)
    failed = {place: float(one.failed_starts) for place, one in at.items()}
    yield counter("ampsweep_engine_failed_starts", "Engines that did not come up.", failed, _PLACE)
    failures = {place: float(one.failures) for place, one in at.items()}
    yield gauge(
        "ampsweep_engine_failures_in_a_row",
        "Times in a row that the engine did not come up, or ended without having been healthy.",
        failures,
        _PLACE,
    )
    supervised = {place: float(one.supervised) for place, one in at.items()}
    yield gauge(
        "ampsweep_engine_supervised", "1 while the engine's supervisor runs, which starts it again.", supervised, _PLACE
    )
    deaths = {place: float(one.deaths) for place, one in at.items()}
    yield counter("ampsweep_engine_deaths", "Engines that ended while they were in use.", deaths, _PLACE)
    cells = {place: float(one.cells) for place, one in at.items()}
    yield gauge("ampsweep_engine_cells", "Cells in flight.", cells, _PLACE)
    streams = {place: float(one.streams) for place, one in at.items()}
    yield gauge("ampsweep_engine_streams", "Completions and identifications in flight.", streams, _PLACE)
    for field, (name, meaning) in _COUNTED.items():
        own = {place: one.stats[field] for place, one in at.items() if one.stats is not None}
        yield counter(f"ampsweep_engine_{name}", meaning, own, _PLACE)
    for field, (name, meaning) in _HELD.items():
        own = {place: one.stats[field] for place, one in at.items() if one.stats is not None and field in one.stats}
        yield gauge(f"ampsweep_engine_{name}", meaning, own, _PLACE)
