"""The metrics of steering under vLLM's `/metrics`, which an engine's core sends within vLLM's own statistics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

SLOTS, USED, WAITING = "ampsweep_slots", "ampsweep_slots_used", "ampsweep_slots_waiting"
STEERED, OVERFLOWED = "ampsweep_steered", "ampsweep_overflowed"
"""Names of the numbers in vLLM's statistics."""

_GAUGES: Mapping[str, tuple[str, str]] = {
    SLOTS: ("ampsweep:slots", "Distinct interventions that can be in flight."),
    USED: ("ampsweep:slots_used", "Distinct interventions in flight."),
    WAITING: ("ampsweep:requests_waiting_for_slot", "Steered requests that wait for a slot."),
}
_COUNTERS: Mapping[str, tuple[str, str]] = {
    STEERED: ("ampsweep:steered_requests", "Steered requests that were admitted, each answer counted."),
    OVERFLOWED: ("ampsweep:overflowed_requests", "Steered requests that ended with an error because of NaN."),
}
_LABELS = ("model_name", "engine")
_created: dict[tuple[type, str], Any] = {}
"""The metrics of this process by class and name: a process can have several engines, one after the other."""


class SlotMetrics:
    """The metrics of the engines of one front end.

    Args:
        labels: The values of the labels `model_name` and `engine`, by the engine's index.
        gauge: The class of vLLM's own gauges: that of `prometheus_client`, or Ray's inside Ray.
        counter: The class of its counters.
    """

    def __init__(self, labels: Mapping[int, Sequence[object]], *, gauge: type, counter: type) -> None:
        self._labels = labels
        self._gauge = gauge
        self._counter = counter
        self._counted = {(key, engine): 0 for key in _COUNTERS for engine in labels}

    def record(self, scheduler_stats: Any, engine: int) -> None:
        """Take the numbers of an engine from vLLM's statistics, if they have them."""
        numbers = scheduler_stats.num_kv_fetch_reqs_by_stage
        if STEERED not in numbers:
            return
        for key, (name, description) in _GAUGES.items():
            _metric(self._gauge, name, description, multiprocess_mode="mostrecent").labels(*self._labels[engine]).set(
                numbers[key]
            )
        for key, (name, description) in _COUNTERS.items():
            counter = _metric(self._counter, name, description).labels(*self._labels[engine])
            counter.inc(max(numbers[key] - self._counted[key, engine], 0))
            self._counted[key, engine] = numbers[key]


def _metric(kind: type, name: str, description: str, **options: str) -> Any:
    if (kind, name) not in _created:
        _created[kind, name] = kind(name, description, _LABELS, **options)
    return _created[kind, name]
