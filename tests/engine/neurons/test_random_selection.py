"""Random neurons are the same for ever: sweeps of earlier versions drew them as their controls."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ampsweep.domain.neurons.layer_widths import LayerWidths
from engine.neurons.random_selection import _lowest, draw_neurons

DRAWN = [[0, 0], [0, 7], [0, 29], [2, 2], [2, 9]]


def test_the_draw_of_a_key_never_changes() -> None:
    widths = LayerWidths(3, (40, 0, 10))
    drawn = draw_neurons(np.array([3, 0, 2]), widths=widths, key=["ns_x", ["fr"], 7])
    assert drawn.tolist() == DRAWN


@given(arrays(np.uint64, st.integers(1, 40), elements=st.integers(0, 9)), st.integers(0, 45))
def test_the_lowest_values_are_the_first_of_a_stable_sort(values: np.ndarray, count: int) -> None:
    in_order = sorted(range(len(values)), key=lambda index: (values[index], index))
    assert _lowest(values, count).tolist() == sorted(in_order[:count])
