from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from scipy import stats

from jobs.statistics import bootstrap
from jobs.statistics.bootstrap import RESAMPLES, bootstrap_mean, interval


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_the_interval_is_that_of_plain_resampling() -> None:
    values = rng(1).normal(size=60)
    low, high = bootstrap_mean(values, rng())
    plain = values[rng(2).integers(0, 60, size=(20_000, 60))].mean(axis=1)
    assert np.allclose([low, high], np.quantile(plain, [0.025, 0.975]), atol=0.03)


def test_the_interval_is_scipys_percentile_interval() -> None:
    values = (rng(4).random(80) < 0.3).astype(np.float64)
    low, high = bootstrap_mean(values, rng())
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="percentile", rng=rng(5)
    ).confidence_interval
    assert np.allclose([low, high], [theirs.low, theirs.high], atol=0.02)


def test_batches_draw_what_one_large_draw_does(monkeypatch: pytest.MonkeyPatch) -> None:
    values = rng(1).normal(size=50)
    counts = rng(6).multinomial(50, np.full(50, 1 / 50), size=RESAMPLES)
    at_once = interval(counts @ np.sort(values) / 50)
    monkeypatch.setattr(bootstrap, "BATCH_VALUES", 50 * 16)
    assert bootstrap_mean(values, rng(6)) == pytest.approx(at_once, rel=1e-12)


def test_resampling_many_values_takes_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "RESAMPLES", 24)  # at once, the counts alone would take 183 MiB with their products
    tracemalloc.start()
    bootstrap_mean(rng(1).normal(size=500_000), rng())
    assert tracemalloc.get_traced_memory()[1] < 150 * 2**20
    tracemalloc.stop()


def test_equal_values_have_an_interval_without_width() -> None:
    assert bootstrap_mean(np.ones(5), rng()) == (1.0, 1.0)


def test_the_same_seed_gives_the_same_interval() -> None:
    values = np.array([0.0, 1.0, 1.0, 0.0, 1.0])
    assert bootstrap_mean(values, rng(3)) == bootstrap_mean(values, rng(3))
