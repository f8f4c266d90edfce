"""From samples to numbers: shares with bootstrap intervals, paired with the unsteered baseline. Pure numpy.

Every interval is seeded by its caller, so the same samples give the same numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import comb

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
LEVEL = 0.95

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A metric's value over `n` items with its interval, and how it differs from the baseline on the same items."""

    n: int
    value: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    baseline: float | None = None
    delta: float | None = None
    p_value: float | None = None
    delta_ci_low: float | None = None
    delta_ci_high: float | None = None


def bootstrap_mean(values: Floats, rng: np.random.Generator) -> tuple[float, float]:
    """Return the percentile interval (95 %) of the mean of `values` [n], n > 0, over 2000 resamplings of the items.

    Drawing n items with replacement is drawing how often each distinct value comes: one multinomial draw a resample.
    """
    distinct, counts = np.unique(values, return_counts=True)
    drawn = rng.multinomial(len(values), counts / len(values), size=RESAMPLES)
    means = drawn @ distinct / len(values)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def mcnemar(steered: NDArray[np.bool_], baseline: NDArray[np.bool_]) -> float:
    """Return the exact two-sided p-value of McNemar's test on paired verdicts [n]; 1 where none differs.

    Of the items whose verdicts differ, as few as or fewer than were seen in the smaller direction, by a fair coin.
    """
    gained = int((steered & ~baseline).sum())
    lost = int((~steered & baseline).sum())
    tail = sum(comb(gained + lost, count) for count in range(min(gained, lost) + 1))
    return min(1.0, 2 * tail / (1 << (gained + lost)))


def lss(steered: Floats, baseline: Floats, rng: np.random.Generator) -> Verdict:
    """Return the share of facts whose d is larger steered than unsteered; both [n], paired, in nats."""
    if not len(steered):
        return Verdict(n=0)
    shifted = (steered > baseline).astype(np.float64)
    low, high = bootstrap_mean(shifted, rng)
    return Verdict(n=len(shifted), value=float(shifted.mean()), ci_low=low, ci_high=high)


def accuracy(correct: NDArray[np.bool_], rng: np.random.Generator) -> Verdict:
    """Return the share of right predictions [n]."""
    if not len(correct):
        return Verdict(n=0)
    low, high = bootstrap_mean(correct.astype(np.float64), rng)
    return Verdict(n=len(correct), value=float(correct.mean()), ci_low=low, ci_high=high)


def paired_accuracy(steered: NDArray[np.bool_], baseline: NDArray[np.bool_], rng: np.random.Generator) -> Verdict:
    """Return the share of right predictions and how it differs from the baseline's, both [n] over the same items."""
    alone = accuracy(steered, rng)
    if not alone.n:
        return alone
    low, high = bootstrap_mean(steered.astype(np.float64) - baseline.astype(np.float64), rng)
    return Verdict(
        n=alone.n,
        value=alone.value,
        ci_low=alone.ci_low,
        ci_high=alone.ci_high,
        baseline=float(baseline.mean()),
        delta=float(steered.mean() - baseline.mean()),
        p_value=mcnemar(steered, baseline),
        delta_ci_low=low,
        delta_ci_high=high,
    )
