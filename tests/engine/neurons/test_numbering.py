"""Neurons are numbered through all layers in order, whatever the widths of the layers."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ampsweep.domain.neurons.layer_widths import LayerWidths
from engine.neurons.numbering import layers_of, numbers_of, outside, pairs_of, selected


@given(st.lists(st.integers(1, 5), min_size=1, max_size=5))
def test_pairs_and_numbers_are_two_names_of_the_same_neurons(by_layer: list[int]) -> None:
    widths = LayerWidths.parse(len(by_layer), by_layer)
    everything = [(layer, index) for layer, width in enumerate(by_layer) for index in range(width)]
    numbers = np.arange(sum(by_layer))
    assert pairs_of(numbers, widths).tolist() == [list(pair) for pair in everything]
    assert numbers_of(np.array(everything, dtype=np.int32), widths).tolist() == numbers.tolist()
    assert layers_of(numbers, widths).tolist() == [layer for layer, _ in everything]
    assert not outside(np.array(everything), widths).any()


def test_selected_neurons_are_sorted_pairs() -> None:
    chosen = np.array([False, True, True, False, False, True])
    assert selected(chosen, LayerWidths(3, (2, 1, 3))).tolist() == [[0, 1], [1, 0], [2, 2]]
    assert selected(chosen.reshape(3, 2), LayerWidths(3, 2)).tolist() == [[0, 1], [1, 0], [2, 1]]


def test_neurons_that_a_model_lacks_are_outside() -> None:
    pairs = np.array([(0, 1), (0, 2), (1, 0), (1, 1), (2, 2), (3, 0), (-1, 0), (0, -1)])
    assert outside(pairs, LayerWidths(3, (2, 1, 3))).tolist() == [False, True, False, True, False, True, True, True]
