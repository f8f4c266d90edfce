"""Compares the statistic of each token, in Numba and in torch, with float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ampsweep.domain.statistic import Statistic
from engine.kernels.cpu.take_statistics import in_torch, take_statistics
from tests.engine.kernels.rows import taken

WORDS = ["mean", "std", "median", "max", "iqr", "mad", "p0", "p5", "p50", "p97.5", "p99.99", "p100"]


def planned(words: list[str], width: int) -> tuple[np.ndarray, np.ndarray]:
    plans = [Statistic.parse(word).plan(width) for word in words]
    plan = np.array([[entry.kind, *entry.ranks] for entry in plans], dtype=np.int32).reshape(-1, 3)
    return plan, np.array([entry.weights for entry in plans], dtype=np.float32).reshape(-1, 2)


def both(values: torch.Tensor, words: list[str]) -> list[torch.Tensor]:
    plan, weights = planned(words, values.shape[1])
    return [
        take_statistics(values, plan, weights),
        in_torch(values.float(), torch.from_numpy(plan), torch.from_numpy(weights)),
    ]


@given(
    seed=st.integers(0, 2**32 - 1),
    width=st.integers(1, 300),
    words=st.lists(st.sampled_from(WORDS), max_size=5),
    spread=st.sampled_from([1e-15, 1e-3, 1.0, 1e3]),
    ties=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
)
@settings(max_examples=200)
def test_statistics_agree_with_float64(
    seed: int, width: int, words: list[str], spread: float, ties: bool, dtype: torch.dtype
) -> None:
    values = torch.from_numpy(np.random.default_rng(seed).normal(size=(len(words), width)))
    values = (values.round() if ties else values).mul(spread).to(dtype)
    expected = [taken(values[index], Statistic.parse(word)) if width > 1 else None for index, word in enumerate(words)]
    for statistics in both(values, words):
        assert statistics.dtype == torch.float32
        for index, value in enumerate(expected):
            if value is not None:
                assert float(statistics[index]) == pytest.approx(value, rel=1e-5, abs=1e-5 * spread)


def test_statistics_of_a_single_neuron() -> None:
    values = torch.full((len(WORDS), 1), -2.5)
    for statistics in both(values, WORDS):
        assert statistics.tolist() == [0.0 if word in ("std", "iqr", "mad") else -2.5 for word in WORDS]


def test_order_statistics_return_exact_values() -> None:
    """Values of both signs whose float32 bits differ in the last place, and infinities."""
    near = np.nextafter(np.float32(1.0), np.float32(2.0))
    ascending = np.array([-np.inf, -near, -1.0, -0.0, 1e-45, 1.0, near, np.inf], dtype=np.float32)
    shuffled = torch.from_numpy(np.random.default_rng(0).permutation(ascending))
    words = [f"p{100 * index / 7:.4f}" for index in range(8)]
    plan, weights = planned(words, 8)
    plan[:, 1], weights[:] = np.arange(8), 0.0
    values = shuffled.repeat(8, 1)
    for statistics in (
        take_statistics(values, plan, weights),
        in_torch(values, torch.from_numpy(plan), torch.from_numpy(weights)),
    ):
        np.testing.assert_array_equal(statistics.numpy(), ascending)
