"""Overlap of neuron sets: worked examples, and an independent count with Python's sets."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.neurons.overlap import all_neurons, overlap, overlap_by_language, overlap_of_languages


def pairs(*neurons: tuple[int, int]) -> NDArray[np.int32]:
    return np.array(sorted(neurons), dtype=np.int32).reshape(-1, 2)


def test_shared_neurons_are_counted_in_total_and_by_layer() -> None:
    shared = overlap(pairs((0, 1), (0, 2), (2, 5)), pairs((0, 2), (0, 3), (1, 5), (2, 5)), layers=4)
    assert (shared.a, shared.b, shared.shared) == (3, 4, 2)
    assert shared.jaccard == 2 / 5
    assert shared.by_layer == (1 / 3, 0.0, 1.0, None)


def test_without_neurons_there_is_no_overlap() -> None:
    assert overlap(pairs(), pairs((0, 1)), layers=1).jaccard == 0.0
    nothing = overlap(pairs(), pairs(), layers=2)
    assert (nothing.a, nothing.jaccard, nothing.by_layer) == (0, None, (None, None))


def test_languages_of_both_sets_are_compared_in_the_order_of_the_first() -> None:
    first = {"tr": pairs((0, 1)), "fr": pairs((0, 2)), "en": pairs()}
    second = {"fr": pairs((0, 2)), "ja": pairs((0, 9)), "tr": pairs((1, 1))}
    by_language = overlap_by_language(first, second, layers=2)
    assert {language: each.jaccard for language, each in by_language.items()} == {"tr": 0.0, "fr": 1.0}
    assert list(by_language) == ["tr", "fr"]


def test_each_two_languages_of_a_set_are_compared_once() -> None:
    neurons = {"id": pairs((0, 1), (0, 2), (1, 0)), "ms": pairs((0, 2), (1, 0)), "fr": pairs()}
    compared = overlap_of_languages(neurons, layers=2)
    assert {languages: each.jaccard for languages, each in compared.items()} == {
        ("id", "ms"): 2 / 3,
        ("id", "fr"): 0.0,
        ("ms", "fr"): 0.0,
    }


def test_a_neuron_of_two_languages_counts_once_among_all() -> None:
    first = all_neurons({"fr": pairs((0, 1), (0, 2)), "tr": pairs((0, 2))})
    second = all_neurons({"fr": pairs((0, 2))})
    shared = overlap(first, second, layers=1)
    assert (shared.a, shared.b, shared.shared) == (2, 1, 1)
    assert all_neurons({}).shape == (0, 2)


@pytest.mark.parametrize("seed", range(5))
def test_any_two_sets_overlap_as_pythons_sets_do(seed: int) -> None:
    rng = np.random.default_rng(seed)
    first, second = ({tuple(pair) for pair in rng.integers(0, (6, 30), size=(80, 2)).tolist()} for _ in range(2))
    shared = overlap(pairs(*first), pairs(*second), layers=6)
    assert shared.jaccard == pytest.approx(len(first & second) / len(first | second))
    for layer, jaccard in enumerate(shared.by_layer):
        in_a, in_b = ({pair for pair in each if pair[0] == layer} for each in (first, second))
        assert jaccard == pytest.approx(len(in_a & in_b) / len(in_a | in_b))
