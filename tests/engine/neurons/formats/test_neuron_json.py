from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ampsweep.errors import InvalidRequest
from ampsweep.folders.model import ModelFolder
from engine.neurons.formats.neuron_json import from_json, to_json

MODEL = ModelFolder(name="made-up", fingerprint="f" * 64, layers=3, width=8)


def test_neurons_are_imported_and_exported() -> None:
    neurons = from_json({"fr": {"2": [7, 0], "0": [3]}, "en": {}}, model=MODEL)
    assert neurons.neurons["fr"].tolist() == [[0, 3], [2, 0], [2, 7]]
    assert to_json(neurons) == {"fr": {"0": [3], "2": [0, 7]}, "en": {}}
    assert from_json(to_json(neurons), model=MODEL).id == neurons.id
    assert (neurons.model, neurons.fingerprint, neurons.patch) == ("made-up", "f" * 64, None)


def test_another_script_is_another_language() -> None:
    assert from_json({"zh": {}, "zho_Hant": {}}, model=MODEL).languages == ("zh", "zho_Hant")


def test_a_long_code_is_shortened() -> None:
    long, short = {"fra_Latn": {"0": [1]}, "zsm_Latn": {}}, {"fr": {"0": [1]}, "ms": {}}
    assert from_json(long, model=MODEL).languages == ("fr", "ms")
    assert from_json(long, model=MODEL).id == from_json(short, model=MODEL).id


def test_layers_may_be_numbers() -> None:
    assert from_json({"fr": {1: [2]}}, model=MODEL).id == from_json({"fr": {"1": [2]}}, model=MODEL).id


def test_a_list_for_each_layer_is_read() -> None:
    by_number = from_json({"fr": {"0": [1, 3], "2": [7]}}, model=MODEL)
    assert from_json({"fr": [[3, 1], [], [7]]}, model=MODEL).id == by_number.id


def test_a_layer_without_an_mlp_has_no_neurons() -> None:
    hybrid = replace(MODEL, width=(8, 0, 8))
    assert from_json({"fr": [[1], [], [7]]}, model=hybrid).neurons["fr"].tolist() == [[0, 1], [2, 7]]
    with pytest.raises(InvalidRequest, match=r"neurons\.fr\.1: the layer has no MLP; got 0"):
        from_json({"fr": {"1": [0]}}, model=hybrid)


@pytest.mark.parametrize(
    ("raw", "param", "message"),
    [
        ({}, "neurons", "must be an object"),
        ([], "neurons", "must be an object"),
        ({"": {}}, "neurons", "must be a code of letters, digits, _ and -, without spaces around it"),
        ({" fr": {}}, "neurons", "without spaces around it, such as fr or zho_Hant; got ' fr'"),
        ({"fr": {}, "fr/../en": {}}, "neurons", "got 'fr/../en'"),
        ({"f\0r": {}}, "neurons", r"got 'f\\x00r'"),
        ({None: {}}, "neurons", "got None"),
        ({False: {}}, "neurons", "YAML reads no as false"),
        ({"fr": {}, "fra_Latn": {}}, "neurons", "fr and fra_Latn are one language"),
        ({"cmn_Hans": {}, "zho_Hans": {}}, "neurons", "cmn_Hans and zho_Hans are one language"),
        ({"fr": [1]}, "neurons.fr", "must be an object"),
        ({"fr": [[1], [2]]}, "neurons.fr", "has 2 layers, but made-up has 3"),
        ({"fr": [[0, 3], [0, 5], [2, 4]]}, "neurons.fr", r"\[layer, index\] pairs or two neurons for each layer"),
        ({"0": {"fr": [1]}, "1": {"fr": [2]}}, "neurons", "Layers belong inside languages"),
        ({"fr": {"one": [1]}}, "neurons.fr", "got 'one'"),
        ({"fr": {"-1": [1]}}, "neurons.fr", "got '-1'"),
        ({"fr": {"1": [1], "01": [2]}}, "neurons.fr", "layer 1 is listed twice"),
        ({"fr": {"9" * 5000: [1]}}, "neurons.fr", "a layer must be a whole number"),
        ({"fr": {"3": [1]}}, "neurons.fr.3", "layers 0 to 2"),
        ({"fr": {"0": 1}}, "neurons.fr.0", "must be a list"),
        ({"fr": {"0": [8]}}, "neurons.fr.0", "from 0 to 7; got 8"),
        ({"fr": {"0": [-1]}}, "neurons.fr.0", "got -1"),
        ({"fr": {"0": [1.0]}}, "neurons.fr.0", "got 1.0"),
        ({"fr": {"0": [True]}}, "neurons.fr.0", "got True"),
        ({"fr": {"0": [5, 2, 5]}}, "neurons.fr.0", "neuron 5 is listed twice"),
    ],
)
def test_an_invalid_entry_is_named(raw: Any, param: str, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message) as caught:
        from_json(raw, model=MODEL)
    assert caught.value.param == param
