from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ampsweep.domain.capture import CaptureSelection
from ampsweep.domain.neurons.layer_widths import LayerWidths
from ampsweep.domain.validation import validate
from ampsweep.errors import InvalidRequest, NoNeurons, UnknownName
from engine.capture.selection import NeuronSelection, select
from engine.neurons.neuron_set import NeuronSet
from tests.engine.neuron_sets import make_neuron_set

WIDTHS = LayerWidths(4, (8, 3, 0, 8))
NEURONS = make_neuron_set(
    {"fr": [(3, 7), (0, 2), (0, 1)], "tr": [(0, 2), (1, 0)], "ht": []}, layers=4, width=(8, 3, 0, 8)
)


def selected(neuron_set: NeuronSet | None = NEURONS, **raw: Any) -> NeuronSelection:
    return select(validate(CaptureSelection, raw), WIDTHS, neuron_set)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ({"layers": [1]}, {"1": [0, 1, 2]}),
        ({"layers": [3, 1]}, {"1": [0, 1, 2], "3": list(range(8))}),
        ({"neurons": [[3, 5], [0, 6], [3, 1]]}, {"0": [6], "3": [1, 5]}),
        ({"languages": ["fr"]}, {"0": [1, 2], "3": [7]}),
        ({"languages": ["fr", "tr", "ht"]}, {"0": [1, 2], "1": [0], "3": [7]}),
    ],
)
def test_neurons_are_ascending_and_each_is_there_once(raw: dict[str, Any], expected: dict[str, list[int]]) -> None:
    neurons = selected(**raw)
    assert neurons.to_dict() == expected
    assert neurons.counts == tuple(map(len, expected.values()))
    assert neurons.total == sum(neurons.counts)
    assert {indices.dtype for indices in neurons.indices} == {np.dtype(np.int32)}


@pytest.mark.parametrize(
    ("raw", "param", "kind", "words"),
    [
        ({"layers": [0, 4]}, "select.layers", InvalidRequest, "layers 0 to 3, and no layer 4"),
        ({"layers": [2]}, "select.layers", InvalidRequest, "has no MLP"),
        ({"neurons": [[0, 1], [1, 3]]}, "select.neurons.1", InvalidRequest, "0 to 2, and none with the index 3"),
        ({"neurons": [[9, 1]]}, "select.neurons.0", InvalidRequest, "no layer 9"),
        ({"languages": ["fr", "sw"]}, "select.languages", UnknownName, "'sw'"),
        ({"languages": ["ht"]}, "select.languages", NoNeurons, "ht have no neurons"),
    ],
)
def test_what_the_model_does_not_have_is_named(
    raw: dict[str, Any], param: str, kind: type[InvalidRequest], words: str
) -> None:
    with pytest.raises(kind) as refused:
        selected(**raw)
    assert refused.value.param == param
    assert words in refused.value.message


def test_languages_need_a_neuron_set() -> None:
    with pytest.raises(InvalidRequest, match="in a neuron set only"):
        selected(None, languages=["fr"])
    assert selected(None, layers=[1]).total == 3
