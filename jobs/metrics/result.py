"""What is said of a cell in one number."""

from __future__ import annotations

from dataclasses import dataclass

FEW = 20
"""An interval over fewer items is noted: a percentile bootstrap of so few is too narrow."""


def too_few(count: int, what: str = "items") -> str | None:
    """Return the note on an interval that rests on few; None where it rests on enough."""
    return f"the interval rests on {count} {what}" if count < FEW else None


@dataclass(frozen=True, kw_only=True)
class MetricResult:
    """A metric's value over `n` items with its interval, and how it differs from the baseline on the same items.

    `effect` is how large the difference is, on a scale that does not depend on n: see the metric. `p_mid` is a p-value
    less cautious than an exact `p_value`, where there is one; `signature` says how a library computed the value. A
    value that could not be computed is None, and `note` says why; or it says what to mind about the value.
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
    effect: float | None = None
    p_mid: float | None = None
    signature: str | None = None
    note: str | None = None
