"""The neurons whose activations are captured, as indices of each layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ampsweep.domain.capture import CaptureSelection
from ampsweep.domain.neurons.layer_widths import LayerWidths
from ampsweep.errors import InvalidRequest, NoNeurons, UnknownName
from engine.neurons.neuron_set import NeuronSet


@dataclass(frozen=True, kw_only=True, eq=False)
class NeuronSelection:
    """Neurons of some layers; every layer has at least one.

    Attributes:
        layers: Indices of the layers, ascending.
        indices: The neurons of each of them, int32, ascending.
    """

    layers: tuple[int, ...]
    indices: tuple[NDArray[np.int32], ...]

    @classmethod
    def of(cls, by_layer: Mapping[int, NDArray[np.integer]]) -> NeuronSelection:
        """Return the selection of these neurons, in any order, with their duplicates left out."""
        layers = tuple(sorted(layer for layer, indices in by_layer.items() if len(indices)))
        return cls(layers=layers, indices=tuple(np.unique(by_layer[layer]).astype(np.int32) for layer in layers))

    @property
    def counts(self) -> tuple[int, ...]:
        """The number of neurons of each layer."""
        return tuple(map(len, self.indices))

    @property
    def total(self) -> int:
        """The number of neurons of all layers."""
        return sum(self.counts)

    def to_dict(self) -> dict[str, list[int]]:
        """Return the JSON form, {layer: [index, ...]}."""
        return {str(layer): indices.tolist() for layer, indices in zip(self.layers, self.indices, strict=True)}


def select(selection: CaptureSelection, widths: LayerWidths, neuron_set: NeuronSet | None) -> NeuronSelection:
    """Return the neurons that a selection stands for. The `param` of an error is a field of `select`.

    Args:
        selection: A valid selection.
        widths: The layers of the model.
        neuron_set: The set that its languages are of; not needed for listed neurons and layers.

    Raises:
        UnknownName: The set has no such language.
        NoNeurons: The languages have no neurons.
        InvalidRequest: The model has no such layer or neuron, or there is no neuron set.
    """
    if selection.layers is not None:
        for layer in selection.layers:
            _check_layer(layer, widths, "select.layers")
        return NeuronSelection.of({layer: np.arange(widths.of(layer)) for layer in selection.layers})
    if selection.neurons is not None:
        return _listed(selection.neurons, widths, "select.neurons")
    assert selection.languages is not None, "validated"
    param = "select.languages"
    if neuron_set is None:
        raise InvalidRequest("languages have neurons in a neuron set only; name one in neurons", param=param)
    return of_languages(selection.languages, neuron_set, param=param)


def of_languages(languages: Sequence[str], neuron_set: NeuronSet, *, param: str) -> NeuronSelection:
    """Return the neurons that belong to any of some languages.

    Raises:
        UnknownName: The set has no such language.
        NoNeurons: None of the languages has neurons.
    """
    pairs = []
    for language in languages:
        if language not in neuron_set.neurons:
            raise UnknownName("language", language, neuron_set.languages, param=param)
        pairs.append(neuron_set.neurons[language])
    neurons = np.concatenate(pairs)
    if not len(neurons):
        message = f"{', '.join(languages)} have no neurons in the neuron set {neuron_set.id}; name other languages"
        raise NoNeurons(message, param=param)
    return _by_layer(neurons)


def _listed(neurons: tuple[tuple[int, int], ...], widths: LayerWidths, param: str) -> NeuronSelection:
    for position, (layer, index) in enumerate(neurons):
        _check_layer(layer, widths, f"{param}.{position}")
        if index >= widths.of(layer):
            message = f"layer {layer} has the neurons 0 to {widths.of(layer) - 1}, and none with the index {index}"
            raise InvalidRequest(message, param=f"{param}.{position}")
    return _by_layer(np.array(neurons, dtype=np.int64))


def _by_layer(neurons: NDArray[np.integer]) -> NeuronSelection:
    """Return the selection of neurons [k, 2], each a layer and an index."""
    return NeuronSelection.of({int(layer): neurons[neurons[:, 0] == layer, 1] for layer in np.unique(neurons[:, 0])})


def _check_layer(layer: int, widths: LayerWidths, param: str) -> None:
    if layer >= widths.layers:
        raise InvalidRequest(f"the model has the layers 0 to {widths.layers - 1}, and no layer {layer}", param=param)
    if not widths.of(layer):
        raise InvalidRequest(f"layer {layer} has no MLP, so it has no neurons; leave it out", param=param)
