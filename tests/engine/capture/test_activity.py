from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from ampsweep.domain.neurons.layer_widths import Width
from engine.base import Capture
from engine.capture.activity import language_activity
from engine.capture.selection import of_languages
from engine.neurons.neuron_set import NeuronSet
from tests.engine.neuron_sets import make_neuron_set

PAIRS = {"fr": [(0, 1), (2, 3), (2, 5)], "tr": [(0, 1), (1, 0)], "ht": list[tuple[int, int]]()}


def recorded(*, width: Width = 8, signs: tuple[float, ...] = (1.0, 1.0, 1.0)) -> NeuronSet:
    """Return a set whose largest values all have the sign of their language."""
    neuron_set = make_neuron_set(PAIRS, width=width)
    assert neuron_set.patch is not None
    assert neuron_set.patch.max is not None
    largest = np.abs(neuron_set.patch.max)
    for language, sign in enumerate(signs):
        largest[language] *= sign
    return replace(neuron_set, patch=replace(neuron_set.patch, max=largest))


def capture(values: dict[tuple[int, int], list[float]], neuron_set: NeuronSet) -> Capture:
    """Return a capture of two tokens, from the activations of each neuron."""
    neurons = of_languages(neuron_set.languages, neuron_set, param="neurons")
    return Capture(
        token_ids=(5, 6),
        token_texts=("a", " b"),
        activations=tuple(
            np.array([values[layer, int(index)] for index in indices], dtype=np.float32).T
            for layer, indices in zip(neurons.layers, neurons.indices, strict=True)
        ),
    )


VALUES = {(0, 1): [1.0, -0.5], (1, 0): [0.0, 0.25], (2, 3): [2.0, -1.0], (2, 5): [-3.0, 4.0]}


@pytest.mark.parametrize("width", [8, (8, 4, 9)])
def test_each_language_has_the_share_of_its_active_neurons(width: Width) -> None:
    neuron_set = recorded(width=width)
    neurons = of_languages(neuron_set.languages, neuron_set, param="neurons")
    activity = language_activity(capture(VALUES, neuron_set), neurons, neuron_set)
    assert json.loads(json.dumps(activity)) == activity
    assert (activity["neuron_set"], activity["languages"], activity["neurons"]) == (
        neuron_set.id,
        ["fr", "tr", "ht"],
        [3, 2, 0],
    )
    assert activity["tokens"] == [{"id": 5, "text": "a"}, {"id": 6, "text": " b"}]
    assert activity["active"] == [[round(2 / 3, 4), 0.5, None], [round(1 / 3, 4), 0.5, None]]
    assert neuron_set.patch is not None
    assert neuron_set.patch.max is not None
    offsets = np.array(neuron_set.widths.offsets)
    for language, code in enumerate(("fr", "tr")):
        largest = sum(
            float(neuron_set.patch.max[language].ravel()[offsets[layer] + index]) for layer, index in PAIRS[code]
        )
        for token in (0, 1):
            expected = sum(VALUES[pair][token] for pair in PAIRS[code]) / largest
            assert activity["relative"][token][language] == pytest.approx(expected, abs=1e-4)
    assert [row[2] for row in activity["relative"]] == [None, None]


def test_a_set_without_recorded_values_has_no_relative_activity() -> None:
    neuron_set = make_neuron_set(PAIRS, patch=False)
    neurons = of_languages(neuron_set.languages, neuron_set, param="neurons")
    assert language_activity(capture(VALUES, neuron_set), neurons, neuron_set)["relative"] is None


def test_values_that_are_not_above_0_in_sum_are_no_measure() -> None:
    neuron_set = recorded(signs=(-1.0, 1.0, 1.0))
    neurons = of_languages(neuron_set.languages, neuron_set, param="neurons")
    relative = language_activity(capture(VALUES, neuron_set), neurons, neuron_set)["relative"]
    assert [row[0] for row in relative] == [None, None]
    assert None not in [row[1] for row in relative]


def test_neurons_of_experts_that_a_token_does_not_reach_are_not_active() -> None:
    neuron_set = recorded()
    neurons = of_languages(neuron_set.languages, neuron_set, param="neurons")
    values = {**VALUES, (2, 3): [np.nan, -1.0]}
    activity = language_activity(capture(values, neuron_set), neurons, neuron_set)
    assert activity["active"][0][0] == round(1 / 3, 4)
    assert np.isfinite(activity["relative"][0][0])
