from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ampsweep.errors import InvalidRequest
from engine.neurons.neuron_set import NeuronSet, PatchValues
from engine.neurons.recorded_values import with_recorded_values

LAYERS, WIDTH, HIDDEN = 2, 4, 3
VALUES = np.arange(3 * LAYERS * WIDTH, dtype=np.float32).reshape(3, LAYERS, WIDTH)
RECORDED = NeuronSet(
    id="ns_recorded",
    model="tiny",
    fingerprint="f" * 64,
    layers=LAYERS,
    width=WIDTH,
    method="lape",
    corpus="texts",
    neurons={code: np.array([[0, place]], np.int32) for place, code in enumerate(("en", "fr", "tr"))},
    patch=PatchValues(mean=VALUES, max=VALUES + 100, median=VALUES + 50),
    entropy=VALUES[0],
    residual_mean=np.arange(3 * LAYERS * HIDDEN, dtype=np.float32).reshape(3, LAYERS, HIDDEN),
)
IMPORTED = replace(
    RECORDED,
    method="imported",
    corpus="",
    neurons={"tr": np.array([[1, 3]], np.int32), "en": np.array([[0, 2]], np.int32)},
    patch=None,
    entropy=None,
    residual_mean=None,
).with_content_id()


def test_values_are_those_of_the_languages_of_the_imported_set() -> None:
    found = with_recorded_values(IMPORTED, RECORDED)
    assert found.neurons is IMPORTED.neurons
    assert found.patch is not None
    for kind, offset in (("mean", 0), ("max", 100), ("median", 50)):
        values = found.patch.of(kind)  # type: ignore[arg-type]
        assert values is not None
        np.testing.assert_array_equal(values, np.stack([VALUES[2], VALUES[0]]) + offset)
    assert found.residual_mean is not None
    assert RECORDED.residual_mean is not None
    np.testing.assert_array_equal(found.residual_mean, RECORDED.residual_mean[[2, 0]])
    assert (found.id != IMPORTED.id, found.params) == (True, {"values_from": "ns_recorded"})


@pytest.mark.parametrize(
    ("recorded", "message"),
    [
        (replace(RECORDED, fingerprint="e" * 64, model="other"), "ns_recorded is a set of another model, other"),
        (replace(RECORDED, patch=None), "ns_recorded has no values itself"),
        (
            replace(IMPORTED, id="ns_less", neurons={"tr": np.array([[1, 3]], np.int32)}),
            "ns_less has no values of en; identify it on texts of all languages",
        ),
    ],
)
def test_a_set_without_the_values_is_refused(recorded: NeuronSet, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message) as caught:
        with_recorded_values(IMPORTED, recorded)
    assert caught.value.param == "values_from"


def test_a_set_with_means_alone_gives_means() -> None:
    found = with_recorded_values(IMPORTED, replace(RECORDED, patch=PatchValues(mean=VALUES), residual_mean=None))
    assert found.patch is not None
    assert (found.patch.max, found.residual_mean) == (None, None)
