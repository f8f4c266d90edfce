from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ampsweep.errors import InvalidRequest
from engine.neurons.neuron_set import NeuronSet
from engine.neurons.ranked import keep_neurons
from tests.engine.neuron_sets import make_neuron_set

ALL = make_neuron_set({"en": [(0, 1)], "fr": [(0, 1), (1, 4), (2, 2)], "tr": [(1, 7)]})


def test_the_kept_neurons_are_sorted_and_everything_recorded_stays(tmp_path: Path) -> None:
    ranked = keep_neurons(ALL, {"fr": [(2, 2), (0, 1)], "tr": [(1, 7)]}, params={"top": 2})
    assert {code: pairs.tolist() for code, pairs in ranked.neurons.items()} == {
        "en": [],
        "fr": [[0, 1], [2, 2]],
        "tr": [[1, 7]],
    }
    assert (ranked.method, ranked.params) == ("ranked", {"of": ALL.id, "top": 2})
    ranked.save(tmp_path / "kept")
    loaded = NeuronSet.load(tmp_path / "kept")
    assert loaded.id == ranked.id != ALL.id
    assert loaded.patch is not None
    assert ALL.patch is not None
    np.testing.assert_array_equal(loaded.patch.max, ALL.patch.max)


@pytest.mark.parametrize("neurons", [{"fr": [(1, 5)]}, {"tr": [(0, 1)]}, {"ja": [(0, 1)]}])
def test_only_neurons_of_the_set_can_be_kept(neurons: dict[str, list[tuple[int, int]]]) -> None:
    with pytest.raises(InvalidRequest, match=f"{ALL.id} has no neuron") as caught:
        keep_neurons(ALL, neurons, params={})
    assert caught.value.param == "neurons"
