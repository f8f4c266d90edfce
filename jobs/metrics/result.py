"""Result of a metric: a value with its interval, and its difference from the baseline."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from jobs.statistics.bootstrap import is_point

FEW = 20
"""An interval over fewer items gets a note: it is wide, and a percentile bootstrap of few items is too narrow."""
NOT_FINITE = "the value is infinite or not a number"
BASELINE_NOT_FINITE = "the baseline's value is infinite or not a number"
RESTS_ON = "the interval rests on"
ALIKE = "no interval: the value is the same for every resample of the items"
DIFFERENCES_ALIKE = "no interval of the difference: it is the same for every resample of the items"
INTERVAL_NOT_FINITE = "an interval or test has no value, because the metric is undefined for some resamples"
_NO_NUMBERS = frozenset({"n", "signature", "note"})


def too_few(count: int, what: str = "items") -> str | None:
    """Return a note if an interval is computed from fewer than FEW items, otherwise None."""
    return f"{RESTS_ON} {count} {what}" if count < FEW else None


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

    def finite(self) -> MetricResult:
        """Return the result without infinite numbers and NaN, and without what rests on them; a note says so."""
        values = vars(self)
        numbers = {name: value for name, value in values.items() if name not in _NO_NUMBERS}
        wrong = {name for name, value in numbers.items() if value is not None and not math.isfinite(value)}
        if not wrong:
            return self
        if "value" in wrong:
            wrong, note = set(numbers), NOT_FINITE
        elif wrong & {"baseline", "delta"}:
            wrong, note = wrong | (set(numbers) - {"value", "ci_low", "ci_high"}), BASELINE_NOT_FINITE
        else:
            note = INTERVAL_NOT_FINITE
        return MetricResult(**values | dict.fromkeys(wrong) | {"note": "; ".join(filter(None, (self.note, note)))})

    def without_points(self) -> MetricResult:
        """Return the result without intervals that are a point; a note says so.

        A bootstrap interval is a point where items are alike: a single item, or a BLEU of 0 for every sentence. It says
        nothing about the spread of other items, while a point looks like certainty.
        """
        changes: dict[str, Any] = {}
        notes = [self.note]
        for low, high, note in (
            ("ci_low", "ci_high", ALIKE),
            ("delta_ci_low", "delta_ci_high", DIFFERENCES_ALIKE),
        ):
            bounds = getattr(self, low), getattr(self, high)
            if None not in bounds and is_point(*bounds):
                changes |= {low: None, high: None}
                notes.append(note)
        return replace(self, **changes, note="; ".join(filter(None, notes))) if changes else self
