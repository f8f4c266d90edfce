"""The minimum detectable effect: its power in simulations with tests of SciPy, and where it is not defined."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import binom, ttest_1samp

from jobs.metrics.mean import compare_means
from jobs.metrics.power import mcnemar_standard_error, minimum_detectable_effect
from jobs.metrics.result import FEW, MetricResult
from jobs.metrics.share import compare_shares

EXPERIMENTS = 4000
PILOTS = 12
TOLERANCE = 0.04
"""Of a simulated power: six times its standard error, because the pilots and the normal approximation add to it."""


def mean_effect_of_pilots(pilot: Callable[[np.random.Generator], MetricResult]) -> float:
    """Return the mean minimum detectable effect over several experiments in which nothing has an effect."""
    rng = np.random.default_rng(1)
    effects = [minimum_detectable_effect(pilot(rng)) for _ in range(PILOTS)]
    return float(np.mean([effect for effect in effects if effect is not None]))


def test_of_means_a_difference_as_large_is_found_in_four_of_five_experiments() -> None:
    items, spread = 150, 0.7

    def pilot(rng: np.random.Generator) -> MetricResult:
        plain = rng.normal(size=items)
        return compare_means(plain + rng.normal(0, spread, size=items), plain, rng)

    effect = mean_effect_of_pilots(pilot)
    differences = np.random.default_rng(2).normal(effect, spread, size=(EXPERIMENTS, items))
    power = (ttest_1samp(differences, 0.0, axis=1).pvalue < 0.05).mean()
    assert power == pytest.approx(0.8, abs=TOLERANCE)


def test_of_shares_a_difference_as_large_is_found_in_four_of_five_experiments() -> None:
    items, differ = 600, 0.25

    def pilot(rng: np.random.Generator) -> MetricResult:
        plain = rng.random(items) < 0.5
        return compare_shares(plain ^ (rng.random(items) < differ), plain, rng)

    effect = mean_effect_of_pilots(pilot)
    shares = [(differ + effect) / 2, (differ - effect) / 2, 1 - differ]
    gained, lost, _ = np.random.default_rng(2).multinomial(items, shares, size=EXPERIMENTS).T
    fewer = np.minimum(gained, lost)
    mid_p = 2 * binom.cdf(fewer, gained + lost, 0.5) - binom.pmf(fewer, gained + lost, 0.5)
    assert (mid_p < 0.05).mean() == pytest.approx(0.8, abs=TOLERANCE)


def test_of_shares_it_rests_on_the_items_that_differ() -> None:
    steered, plain = np.zeros((2, 400), dtype=bool)
    steered[:16], plain[16:25] = True, True
    result = compare_shares(steered, plain, np.random.default_rng(0))
    assert result.delta_se == mcnemar_standard_error(16, 9, 400) == 5 / 400
    assert minimum_detectable_effect(result) == pytest.approx(2.8016 * 5 / 400, rel=1e-4)


def test_without_a_standard_error_it_rests_on_the_interval_of_the_difference() -> None:
    result = MetricResult(n=500, value=31.0, delta=2.0, delta_ci_low=1.02, delta_ci_high=2.98)
    assert minimum_detectable_effect(result) == pytest.approx(2.8016 * 0.5, rel=1e-4)


@pytest.mark.parametrize(
    "result",
    [
        MetricResult(n=500, value=0.5, ci_low=0.4, ci_high=0.6),
        MetricResult(n=FEW - 1, value=0.5, delta=0.1, delta_ci_low=0.0, delta_ci_high=0.2),
        MetricResult(n=500, value=0.5, delta=0.0, delta_ci_low=0.0, delta_ci_high=0.0, delta_se=0.0),
        MetricResult(n=500, value=0.5, delta=0.1, delta_ci_low=0.1, delta_ci_high=0.1),
        MetricResult(n=500, value=0.5, delta=0.1),
    ],
    ids=["no difference", "few items", "no item differs", "every item differs by as much", "no interval"],
)
def test_where_the_standard_error_is_not_known_there_is_none(result: MetricResult) -> None:
    assert minimum_detectable_effect(result) is None
