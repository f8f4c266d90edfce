"""Shares of items with a property, and their paired difference from a baseline."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from jobs.metrics.power import mcnemar_standard_error
from jobs.metrics.result import MetricResult
from jobs.statistics.bootstrap import bootstrap_mean
from jobs.statistics.significance import cohens_g, discordant, mcnemar, mcnemar_mid
from jobs.statistics.tango import widened
from jobs.statistics.wilson import wilson

Truths = NDArray[np.bool_]


def evaluate_share(true: Truths) -> MetricResult:
    """Return the share of true values among `true` [n], one for each independent item, with Wilson's interval."""
    if not len(true):
        return MetricResult(n=0)
    value = float(true.mean())
    low, high = wilson(value, len(true))
    return MetricResult(n=len(true), value=value, ci_low=low, ci_high=high)


def compare_shares(true: Truths, plain: Truths, rng: np.random.Generator) -> MetricResult:
    """Return the share and its difference from that of `plain` [n], values of the same items, with McNemar's tests."""
    result = evaluate_share(true)
    if not result.n:
        return result
    low, high = widened(*bootstrap_mean(true.astype(np.float64) - plain.astype(np.float64), rng), result.n)
    gained, lost = discordant(true, plain)
    return replace(
        result,
        baseline=float(plain.mean()),
        delta=float(true.mean() - plain.mean()),
        p_value=mcnemar(gained, lost),
        p_mid=mcnemar_mid(gained, lost),
        delta_ci_low=low,
        delta_ci_high=high,
        delta_se=mcnemar_standard_error(gained, lost, result.n),
        effect=cohens_g(gained, lost),
    )
