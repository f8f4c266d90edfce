from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ampsweep.domain.neurons.layer_widths import LayerWidths
from engine.identify.lape import MIN_REACHED, candidate_entropy, probabilities, quantile, select_lape
from engine.identify.stats import ActivationStats
from tests.engine.identify.counts import make_stats

Neurons = dict[str, list[tuple[int, int]]]


def direct_lape(
    counts: Sequence[Sequence[Sequence[int]]],
    tokens: Sequence[int],
    languages: Sequence[str],
    top_rate: float = 0.01,
    filter_rate: float = 0.95,
    activation_bar: float = 0.95,
) -> Neurons:
    """Compute LAPE neuron by neuron from counts [G][L][F], with exact probabilities."""
    groups, layers, width = len(counts), len(counts[0]), len(counts[0][0])
    neurons = [(layer, index) for layer in range(layers) for index in range(width)]
    p = {
        (layer, index): [Fraction(counts[g][layer][index], max(tokens[g], 1)) for g in range(groups)]
        for layer, index in neurons
    }
    everything = sorted(value for values in p.values() for value in values)

    def bar(rate: float) -> Fraction:
        return everything[max(1, round(len(everything) * rate)) - 1]

    entropies = []
    for neuron in neurons:
        if max(p[neuron]) > bar(filter_rate):
            shares = [float(value / sum(p[neuron])) for value in p[neuron] if value > 0]
            entropies.append((round(-math.fsum(q * math.log(q) for q in shares), 12), neuron))
    chosen = [neuron for _, neuron in sorted(entropies)[: round(len(neurons) * top_rate)]]
    return {
        code: sorted(neuron for neuron in chosen if p[neuron][g] > bar(activation_bar))
        for g, code in enumerate(languages)
    }


def _selected(stats: ActivationStats, **rates: float) -> Neurons:
    return {code: [(x, y) for x, y in pairs.tolist()] for code, pairs in select_lape(stats, **rates).items()}


_rate = st.sampled_from([0.01, 0.1, 0.3, 0.5, 0.8, 0.95, 1.0])


@given(
    groups=st.integers(1, 4),
    layers=st.integers(1, 3),
    width=st.integers(1, 12),
    tokens=st.integers(0, 6),
    top=_rate,
    filtered=_rate,
    bar=_rate,
    seed=st.integers(0, 2**32),
)
def test_lape_equals_a_direct_computation(
    groups: int, layers: int, width: int, tokens: int, top: float, filtered: float, bar: float, seed: int
) -> None:
    random = np.random.default_rng(seed)
    total = random.integers(0, tokens + 1, size=groups)  # few tokens: many ties
    counts = random.binomial(total[:, None, None], random.random((groups, layers, width)))
    stats = make_stats(counts, total)
    expected = direct_lape(counts.tolist(), total.tolist(), stats.languages, top, filtered, bar)
    assert _selected(stats, top_rate=top, filter_rate=filtered, activation_bar=bar) == expected


def test_lape_finds_planted_neurons() -> None:
    counts = np.full((3, 4, 50), 10)
    counts[0, 1, 7] = counts[2, 3, 49] = 90
    counts[0, 0, 0] = counts[1, 0, 0] = 80
    stats = make_stats(counts, [100, 100, 100])
    assert _selected(stats) == {"a": [(1, 7)], "b": [], "c": [(3, 49)]}  # 0.01 of 200 neurons are 2
    assert _selected(stats, top_rate=0.015)["b"] == [(0, 0)]


def test_ties_in_entropy_go_to_the_lower_layer_then_index() -> None:
    counts = np.zeros((2, 3, 40), dtype=np.int64)
    for layer, index in ((2, 0), (1, 39), (1, 5)):
        counts[0, layer, index] = 50
    stats = make_stats(counts, [100, 100])
    assert _selected(stats, top_rate=2 / 120)["a"] == [(1, 5), (1, 39)]


def test_rounding_errors_of_logarithms_do_not_order_equal_entropies() -> None:
    counts = np.zeros((4, 1, 50), dtype=np.int64)
    counts[:, 0, 3] = 25, 19, 15, 8
    counts[:, 0, 9] = 25, 15, 19, 8  # the same entropy, but for the order of its sum
    stats = make_stats(counts, [97] * 4)
    assert _selected(stats, top_rate=1 / 50)["a"] == [(0, 3)]


def test_a_neuron_that_is_never_active_is_no_candidate() -> None:
    counts = np.zeros((2, 1, 4), dtype=np.int64)
    counts[:, 0, 0] = 10
    selected = _selected(make_stats(counts, [10, 10]), top_rate=1.0, filter_rate=0.1, activation_bar=0.1)
    assert selected == {"a": [(0, 0)], "b": [(0, 0)]}


@pytest.mark.parametrize(("rate", "expected"), [(0.95, 95.0), (0.5, 50.0), (1.0, 100.0), (0.001, 1.0)])
def test_a_quantile_is_one_of_the_values(rate: float, expected: float) -> None:
    values = np.random.default_rng(0).permutation(np.arange(1.0, 101.0)).reshape(4, 25)
    assert quantile(values, rate) == expected


def test_entropies_of_candidates_are_those_of_the_definition() -> None:
    counts = [[[10, 5, 0, 1], [0, 0, 10, 2]], [[0, 5, 0, 1], [10, 0, 10, 2]]]
    entropy = candidate_entropy(make_stats(counts, [10, 10]), filter_rate=0.5)
    # 16 probabilities: 0 x6, 0.1 x2, 0.2 x2, 0.5 x2, 1 x4; the 8th smallest is 0.1, which a candidate exceeds
    expected = [[0.0, np.log(2), np.nan, np.nan], [0.0, np.nan, np.log(2), np.log(2)]]
    assert entropy.dtype == np.float32
    np.testing.assert_allclose(entropy, expected, rtol=1e-6)


def test_layers_of_different_widths_are_selected_from_together() -> None:
    counts = [[9, 0, 5, 0, 0, 9], [0, 0, 5, 0, 9, 0], [0, 0, 5, 0, 0, 0]]
    stats = make_stats(counts, [10, 10, 10], widths=LayerWidths(3, (1, 3, 2)))
    chosen = _selected(stats, top_rate=0.5, filter_rate=0.5, activation_bar=0.5)
    assert chosen == {"a": [(0, 0), (2, 1)], "b": [(2, 0)], "c": []}
    assert candidate_entropy(stats, filter_rate=0.5).shape == (6,)


def test_an_experts_probabilities_are_over_the_tokens_that_reach_it() -> None:
    """The second expert sees one token of language b, which makes none of its neurons certain to be active there."""
    reached = [[[1000, 1000, 500, 500]], [[1200, 1200, 1, 1]]]
    stats = make_stats([[[100, 500, 5, 250]], [[120, 0, 1, 0]]], [1500, 1201], reached=reached)
    np.testing.assert_allclose(
        probabilities(stats), [[0.1, 0.5, 0.01, 0.5], [0.1, 0.0, 1 / MIN_REACHED, 0.0]], rtol=1e-12
    )
