"""The vectors of a layer against worked examples, and the properties of weights and random directions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ampsweep.domain.intervention import Intervention
from ampsweep.errors import InvalidRequest
from engine.neurons.neuron_set import NeuronSet
from engine.steering.edits import resolve
from engine.steering.vectors import random_directions
from tests.engine.neuron_sets import make_neuron_set

LAYERS = 3
MEANS = np.array([[[3.0, 0.0]], [[1.0, 2.0]], [[1.0, 6.0]]], dtype=np.float32).repeat(LAYERS, axis=1)  # en, fr, tr


def _set(means: np.ndarray | None = MEANS) -> NeuronSet:
    empty = make_neuron_set({"en": [], "fr": [], "tr": []})
    return replace(empty, residual_mean=means)


def _vectors(neuron_set: NeuronSet | None = None, **raw: Any) -> np.ndarray:
    intervention = Intervention.from_dict({"op": "add", "factor": 1, "vector": "diffmean_raw", **raw})
    edits = resolve(intervention, _set() if neuron_set is None else neuron_set)
    assert not len(edits.indices)
    assert edits.vectors is not None
    assert edits.vectors.dtype == np.float32
    return edits.vectors


def test_a_vector_is_the_mean_of_the_language_minus_that_of_the_others() -> None:
    np.testing.assert_allclose(_vectors(languages=["en"])[1], [2.0, -4.0])  # (3, 0) - ((1, 2) + (1, 6)) / 2
    np.testing.assert_allclose(_vectors(languages=["en"], factor=-1.5)[1], [-3.0, 6.0])


def test_several_languages_are_compared_with_the_rest_together() -> None:
    np.testing.assert_allclose(_vectors(languages=["en", "fr"])[0], [1.0, -5.0])  # (2, 1) - (1, 6)


def test_diffmean_has_unit_length_and_the_same_direction() -> None:
    unit = _vectors(languages=["fr"], vector="diffmean")
    raw = _vectors(languages=["fr"])
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1.0, rtol=1e-6)
    np.testing.assert_allclose(unit * np.linalg.norm(raw, axis=1, keepdims=True), raw, rtol=1e-6)
    assert np.linalg.norm(_vectors(languages=["en", "fr"], vector="diffmean")[2]) == pytest.approx(1.0)


def test_a_weight_scales_the_vector_of_its_language() -> None:
    for vector in ("diffmean", "diffmean_raw"):
        whole = _vectors(languages=["fr"], vector=vector)
        np.testing.assert_allclose(_vectors(languages={"fr": -0.5}, vector=vector), -0.5 * whole, rtol=1e-6)
    np.testing.assert_allclose(_vectors(languages={"en": 2, "fr": 0})[0], [2.0, -6.0])  # ((3, 0) - (1, 6)) * 2 / 2


def test_other_layers_are_left_alone() -> None:
    vectors = _vectors(languages=["en"], layers=[0, 2])
    np.testing.assert_allclose(vectors, [[2.0, -4.0], [0.0, 0.0], [2.0, -4.0]])


def test_a_random_direction_has_the_same_length_and_depends_on_the_seed_alone() -> None:
    drawn = [
        _vectors(languages=["en"], selection="random", seed=seed, factor=f) for seed, f in ((1, 1), (1, 2), (2, 1))
    ]
    neuron_vectors = _vectors(languages=["en"])
    np.testing.assert_allclose(np.linalg.norm(drawn[0], axis=1), np.linalg.norm(neuron_vectors, axis=1), rtol=1e-5)
    np.testing.assert_allclose(drawn[1], 2 * drawn[0], rtol=1e-6)
    assert not np.allclose(drawn[0], drawn[2])
    assert not np.allclose(drawn[0], neuron_vectors)
    assert not np.allclose(drawn[0][0], drawn[0][1])


def test_random_directions_are_uniform_over_the_sphere() -> None:
    directions = random_directions(2000, 3, key=[0])
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1.0)
    np.testing.assert_allclose(directions.mean(axis=0), 0.0, atol=0.06)  # 4 standard errors of sqrt(1 / 3 / 2000)
    np.testing.assert_allclose(directions.T @ directions / 2000, np.eye(3) / 3, atol=0.04)


def test_languages_that_do_not_differ_have_no_direction() -> None:
    assert not _vectors(_set(np.ones_like(MEANS)), languages=["en"], vector="diffmean").any()


def test_a_set_without_residuals_is_refused() -> None:
    with pytest.raises(InvalidRequest, match=r"has no residual vectors.*identify it again") as caught:
        _vectors(_set(None), languages=["en"])
    assert caught.value.param == "intervention.vector"


def test_a_set_without_other_languages_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="only en, fr, tr") as caught:
        _vectors(languages=["en", "fr", "tr"])
    assert caught.value.param == "intervention.languages"
