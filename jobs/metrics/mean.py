"""Means over items, and their paired difference from a baseline."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from jobs.metrics.result import BASELINE_NOT_FINITE, NOT_FINITE, MetricResult
from jobs.statistics.bootstrap import Floats, bootstrap_mean, is_point
from jobs.statistics.significance import cohens_dz, sign_flip
from jobs.statistics.tango import widened
from jobs.statistics.wilson import is_binary, share_interval


@dataclass(frozen=True, kw_only=True)
class Mean:
    """The mean over items of the function `of` of their `score`.

    Comparisons use a sign-flip test of the paired differences, and Cohen's d_z.
    """

    name: str
    of: Callable[[Floats], Floats]
    higher_is_better: bool | None
    no_effect: float | None = None
    columns: tuple[str, ...] = ("score",)

    def evaluate(self, samples: pa.Table, rng: np.random.Generator) -> MetricResult:
        """Return the mean."""
        return evaluate_mean(self.of(samples["score"].to_numpy()), rng)

    def compare(self, steered: pa.Table, baseline: pa.Table, rng: np.random.Generator) -> MetricResult:
        """Return the mean and its difference from the baseline's on the same items."""
        return compare_means(self.of(steered["score"].to_numpy()), self.of(baseline["score"].to_numpy()), rng)


def evaluate_mean(values: Floats, rng: np.random.Generator, *, is_share: bool = False) -> MetricResult:
    """Return the mean of `values` [n] with its interval.

    Args:
        values: The values of independent items.
        rng: The source of the resamples.
        is_share: Whether the metric is bounded by 0 and 1. If all values are 0 or 1, the interval is then Wilson's.
    """
    if not len(values):
        return MetricResult(n=0)
    if not np.isfinite(values).all():
        return MetricResult(n=len(values), note=NOT_FINITE)
    low, high = share_interval(values, rng) if is_share else bootstrap_mean(values, rng)
    return MetricResult(n=len(values), value=float(values.mean()), ci_low=low, ci_high=high)


def compare_means(values: Floats, plain: Floats, rng: np.random.Generator, *, is_share: bool = False) -> MetricResult:
    """Return the mean of `values` [n] and its difference from that of `plain` [n], values of the same items.

    Arguments as for `evaluate_mean`. The interval of the difference is the bootstrap's, or that of a share where all
    values are 0 or 1 (`jobs.statistics.tango`).
    """
    result = evaluate_mean(values, rng, is_share=is_share)
    if result.value is None:
        return result
    if not np.isfinite(plain).all():
        return replace(result, note=BASELINE_NOT_FINITE)
    difference = values - plain
    low, high = bootstrap_mean(difference, rng)
    is_known = not is_point(low, high)
    if is_share and is_binary(values) and is_binary(plain):
        low, high = widened(low, high, result.n)
    return replace(
        result,
        baseline=float(plain.mean()),
        delta=float(difference.mean()),
        p_value=sign_flip(difference, rng),
        delta_ci_low=low,
        delta_ci_high=high,
        delta_se=None if is_known else 0.0,
        effect=cohens_dz(difference),
    )


def _exp(values: Floats) -> Floats:
    with np.errstate(over="ignore"):  # of a model that says nothing sensible any more
        powers: Floats = np.exp(values)
    return powers


NLL = Mean(name="nll", of=np.asarray, higher_is_better=False)
"""The mean over sentences of the mean negative log-likelihood of their tokens, in nats."""
PERPLEXITY = replace(NLL, name="perplexity", of=_exp)
"""The mean over sentences of the exponential of the mean negative log-likelihood of their tokens."""
