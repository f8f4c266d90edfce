"""Builds a neuron set of the neurons that a ranking puts first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ampsweep.errors import InvalidRequest
from engine.neurons.neuron_set import NeuronSet


def keep_neurons(
    neuron_set: NeuronSet, neurons: Mapping[str, Sequence[tuple[int, int]]], *, params: Mapping[str, Any]
) -> NeuronSet:
    """Return a set of some of the neurons of another, with its patch values, entropies and mean residuals.

    Args:
        neuron_set: The set to choose from.
        neurons: The neurons (layer, index) of each language that are kept, in any order. A language that is left out
            keeps none; it stays in the set, because patch values and residuals compare it with the others.
        params: How the neurons were chosen.

    Returns:
        The set, with method `ranked`, `of` (the id of the original set) among its `params`, and an id that is a hash
        of its content.

    Raises:
        InvalidRequest: A neuron or a language is not in the original set.
    """
    for language, pairs in neurons.items():
        existing = {tuple(pair) for pair in neuron_set.neurons.get(language, np.empty((0, 2), np.int32)).tolist()}
        if missing := sorted(set(pairs) - existing):
            layer, index = missing[0]
            message = f"neuron set {neuron_set.id} has no neuron {index} of layer {layer} for {language}"
            raise InvalidRequest(f"{message}; give the set that the sweep edited", param="neurons")
    return replace(
        neuron_set,
        method="ranked",
        params={"of": neuron_set.id, **params},
        neurons={
            language: np.array(sorted(neurons.get(language, ())), dtype=np.int32).reshape(-1, 2)
            for language in neuron_set.languages
        },
    ).with_content_id()
