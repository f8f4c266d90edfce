"""Result of a metric: a value with its interval, and its difference from the baseline."""

from __future__ import annotations

from dataclasses import dataclass

FEW = 20
"""An interval over fewer items gets a note, because percentile bootstraps of few items are too narrow."""


def too_few(count: int, what: str = "items") -> str | None:
    """Return a note if an interval is computed from fewer than FEW items, otherwise None."""
    return f"the interval rests on {count} {what}" if count < FEW else None


@dataclass(frozen=True, kw_only=True)
class MetricResult:
    """A metric's value over `n` items with its interval, and its difference from the baseline on the same items.

    `delta_se` is the standard error of `delta`, given where it does not follow from the interval of `delta`
    (`jobs.metrics.power`). `effect` is an effect size, which does not depend on `n`; each metric says which one.
    `p_mid` is a mid-p-value, less conservative than an exact `p_value`. `signature` says how a library computed the
    value. A value that could not be computed is None and `note` says why; the note of another value is a caveat.
    """

    n: int
    value: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    baseline: float | None = None
    delta: float | None = None
    p_value: float | None = None
    delta_ci_low: float | None = None
    delta_ci_high: float | None = None
    delta_se: float | None = None
    effect: float | None = None
    p_mid: float | None = None
    signature: str | None = None
    note: str | None = None
