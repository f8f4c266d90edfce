from __future__ import annotations

import numpy as np
import pytest

from ampsweep.domain.neurons.layer_widths import LayerWidths
from engine.identify.selections import select_act_prob, select_activated, select_random
from tests.engine.identify.counts import make_stats


def test_activated_neurons_are_positive_in_every_sentence() -> None:
    positive = [[[3, 2, 0]], [[3, 4, 4]], [[0, 0, 0]]]
    stats = make_stats(np.zeros((3, 1, 3)), [9, 9, 0], positive=positive, patch_sentences=[3, 4, 0])
    selected = {code: pairs.tolist() for code, pairs in select_activated(stats).items()}
    assert selected == {"a": [[0, 0]], "b": [[0, 1], [0, 2]], "c": []}


def test_act_prob_takes_the_most_probable_of_each_language() -> None:
    counts = [[[5, 9, 1], [9, 2, 7]], [[0, 0, 0], [0, 0, 0]]]
    selected = select_act_prob(make_stats(counts, [10, 10]), neurons=3)
    assert selected["a"].tolist() == [[0, 1], [1, 0], [1, 2]]
    assert selected["b"].tolist() == [[0, 0], [0, 1], [0, 2]]  # all equal: the first ones
    assert len(select_act_prob(make_stats(counts, [10, 10]), neurons=9)["a"]) == 6  # no more than there are


def test_random_neurons_match_the_counts_per_layer_and_depend_on_the_seed() -> None:
    neurons = {
        "a": np.array([[0, 1], [0, 2], [2, 5]], dtype=np.int32),
        "b": np.array([[0, 1], [0, 2], [2, 5]], dtype=np.int32),
        "c": np.empty((0, 2), dtype=np.int32),
    }
    drawn = select_random(neurons, widths=LayerWidths(3, 100), seed=0)
    assert drawn["a"][:, 0].tolist() == [0, 0, 2]
    assert len({tuple(pair) for pair in drawn["a"].tolist()}) == 3
    assert drawn["c"].shape == (0, 2)
    assert drawn["a"].tolist() != drawn["b"].tolist()
    assert drawn["a"].tolist() == select_random(neurons, widths=LayerWidths(3, 100), seed=0)["a"].tolist()
    assert drawn["a"].tolist() != select_random(neurons, widths=LayerWidths(3, 100), seed=1)["a"].tolist()


@pytest.mark.parametrize("width", [4, 7])
def test_a_whole_layer_can_be_drawn(width: int) -> None:
    everything = np.array([[0, index] for index in range(width)], dtype=np.int32)
    assert select_random({"a": everything}, widths=LayerWidths(1, width), seed=3)["a"].tolist() == everything.tolist()


def test_selections_respect_the_width_of_each_layer() -> None:
    widths = LayerWidths(2, (2, 5))
    stats = make_stats([[9, 1, 2, 3, 4, 5, 8]], [10], positive=[[1, 0, 0, 0, 0, 0, 1]], widths=widths)
    assert select_activated(stats)["a"].tolist() == [[0, 0], [1, 4]]
    assert select_act_prob(stats, neurons=3)["a"].tolist() == [[0, 0], [1, 3], [1, 4]]
    everything = np.array([(0, 0), (0, 1), *((1, index) for index in range(5))], dtype=np.int32)
    assert select_random({"a": everything}, widths=widths, seed=1)["a"].tolist() == everything.tolist()
