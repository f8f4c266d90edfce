"""An intervention that changes no neuron is rejected instead of running unsteered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ampsweep.domain.intervention import Intervention
from ampsweep.errors import NoNeurons
from engine.base import EngineInfo, Steering
from engine.neurons.loaded import LoadedNeurons
from engine.steering.edits import require_neurons, resolve
from engine.steering.export import export
from tests.engine.neuron_sets import make_neuron_set

NEURONS = make_neuron_set({"en": [(0, 1), (2, 3)], "fr": [(1, 4)], "ht": []})
INFO = EngineInfo(
    kind="fake",
    model="made-up",
    fingerprint="f" * 64,
    model_class="none",
    layers=3,
    width=8,
    hidden_size=4,
    dtype="float32",
    max_model_len=64,
)


def steering(**change: Any) -> Steering:
    raw = {"languages": ["fr"], "op": "scale", "factor": 2, **change}
    return Steering(intervention=Intervention.from_dict(raw), neurons=NEURONS.id)


@pytest.fixture
def loaded() -> LoadedNeurons:
    neurons = LoadedNeurons(INFO)
    neurons.add(NEURONS)
    return neurons


@pytest.mark.parametrize(
    ("change", "param", "message"),
    [
        ({"languages": ["ht"]}, "languages", "no neurons of ht"),
        ({"languages": ["fr", "ht"]}, "languages", "no neurons of ht"),
        ({"languages": {"ht": 2.0}}, "languages", r"languages with neurons: en \(2\), fr \(1\)"),
        ({"languages": ["ht"], "selection": "random", "seed": 1}, "languages", "no neurons of ht"),
        ({"selection": "other", "other": "ht"}, "other", "no neurons of ht"),
        ({"layers": [0, 2]}, "layers", "no neurons of fr in layers 0, 2, only in 1"),
        ({"layers": [0], "selection": "random", "seed": 1}, "layers", "only in 1"),
        ({"neuron": [0, 1]}, "neuron", "neuron 1 of layer 0 is not a neuron of fr"),
        ({"neuron": [1, 4], "layers": [0]}, "neuron", "is not in layers 0"),
        ({"neuron": [1, 4], "layers": [1, 2]}, None, ""),
        ({"layers": [1], "non_target": {"op": "set", "factor": 0}, "languages": ["ht", "fr"]}, None, ""),
        ({"layers": [0], "non_target": {"op": "set", "factor": 0}}, None, ""),
        ({"languages": ["en", "fr"], "layers": [1], "non_target": {"op": "set", "factor": 0}}, None, ""),
    ],
)
def test_an_intervention_that_changes_no_neuron_is_refused(
    change: dict[str, Any], param: str | None, message: str, loaded: LoadedNeurons
) -> None:
    requested = steering(**change)
    if param is None:
        assert len(loaded.resolve(requested).indices) == len(resolve(requested.intervention, NEURONS).indices) > 0
        return
    with pytest.raises(NoNeurons, match=message) as caught:
        loaded.resolve(requested)
    assert caught.value.param == f"intervention.{param}"
    assert NEURONS.id in caught.value.message


def test_layers_without_an_mlp_are_named() -> None:
    neurons = make_neuron_set({"fr": [(1, 4)]}, layers=3, width=(0, 8, 0))
    intervention = Intervention.from_dict({"languages": ["fr"], "op": "scale", "factor": 2, "layers": [0, 2]})
    message = r"no neurons of fr in layers 0, 2 \(of which 0, 2 have no MLP\), only in 1"
    with pytest.raises(NoNeurons, match=message):
        require_neurons(resolve(intervention, neurons), intervention, neurons)


def test_an_export_that_would_change_no_neuron_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(NoNeurons, match="no neurons of ht"):
        export(tmp_path, NEURONS, steering(languages=["ht"]).intervention, tmp_path / "out")
