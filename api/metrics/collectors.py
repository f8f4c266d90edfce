"""Gauges and counters made of numbers that are read where they are known, at every look."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

Labels = tuple[str, ...]


def gauge(name: str, meaning: str, values: float | Mapping[Labels, float], labels: Labels = ()) -> Metric:
    """Return a gauge; with labels, one sample for each of the values."""
    return _filled(GaugeMetricFamily(name, meaning, labels=labels), values)


def counter(name: str, meaning: str, values: float | Mapping[Labels, float], labels: Labels = ()) -> Metric:
    """Return a counter, whose name has no `_total`."""
    return _filled(CounterMetricFamily(name, meaning, labels=labels), values)


def _filled(family: GaugeMetricFamily | CounterMetricFamily, values: float | Mapping[Labels, float]) -> Metric:
    samples = values if isinstance(values, Mapping) else {(): values}
    for own, value in samples.items():
        family.add_metric(own, value)
    return family
