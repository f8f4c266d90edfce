"""Gauges and counters made from values that are read anew at every scrape."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

Labels = tuple[str, ...]


def gauge(name: str, help_text: str, values: float | Mapping[Labels, float], labels: Labels = ()) -> Metric:
    """Return a gauge, with one sample for each tuple of label values, or a single one without labels."""
    return _with_samples(GaugeMetricFamily(name, help_text, labels=labels), values)


def counter(name: str, help_text: str, values: float | Mapping[Labels, float], labels: Labels = ()) -> Metric:
    """Return a counter, as `gauge` does; Prometheus appends `_total` to its name."""
    return _with_samples(CounterMetricFamily(name, help_text, labels=labels), values)


def _with_samples(family: GaugeMetricFamily | CounterMetricFamily, values: float | Mapping[Labels, float]) -> Metric:
    samples = values if isinstance(values, Mapping) else {(): values}
    for label_values, value in samples.items():
        family.add_metric(label_values, value)
    return family
