"""Converts neuron sets from and to plain nested lists, `{language: {layer: [index, ...]}}`, which any tool can write.

Such a set has neurons only. It has no corpus and no patch values, so interventions that need a patch value reject it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ampsweep.domain.languages.codes import one_language_twice, read_code
from ampsweep.errors import InvalidRequest, quoted
from ampsweep.folders.model import ModelFolder
from engine.neurons.neuron_set import NeuronSet

_LAYER_DIGITS = 9
"""Most digits of a layer's number; Python refuses to convert texts of thousands of digits."""


def from_json(raw: object, *, model: ModelFolder) -> NeuronSet:
    """Build a neuron set from `{language: {layer: [index, ...]}}`.

    Args:
        raw: The neurons. A layer is a number or its decimal text; a layer without an entry has no neurons. A language
            may have a list of lists instead, one for each layer of the model. Indices may be in any order.
        model: The model that the neurons belong to.

    Returns:
        The neuron set. Its languages are named as `short_code` writes them, and its id is a hash of its content.

    Raises:
        InvalidRequest: There are no languages, one has no valid code, two codes mean the same language, or an index
            is not a whole number, out of range or duplicate. `param` names the language and the layer.
    """
    return import_set(read_neurons(raw, model=model), model=model)


def read_neurons(raw: object, *, model: ModelFolder) -> dict[str, NDArray[np.int32]]:
    """Return the neurons of `{language: {layer: [index, ...]}}`, int32 [k, 2] a language; raises as `from_json`."""
    if not isinstance(raw, Mapping) or not raw:
        raise InvalidRequest("neurons must be an object {language: {layer: [index, ...]}}, not empty", param="neurons")
    if repeated := one_language_twice(raw):
        raise InvalidRequest(repeated, param="neurons")
    return {_language(code): _of_language(code, layers, model) for code, layers in raw.items()}


def to_json(neurons: NeuronSet) -> dict[str, dict[str, list[int]]]:
    """Return `{language: {layer: [index, ...]}}`, with an entry for every language but none for an empty layer."""
    exported: dict[str, dict[str, list[int]]] = {}
    for language, pairs in neurons.neurons.items():
        layers: dict[str, list[int]] = exported.setdefault(language, {})
        for layer, index in pairs.tolist():
            layers.setdefault(str(layer), []).append(index)
    return exported


def import_set(neurons: Mapping[str, NDArray[np.int32]], *, model: ModelFolder) -> NeuronSet:
    """Build a neuron set of imported neurons; its id is a hash of its content.

    Args:
        neurons: The neurons of each language, int32 [k, 2] of (layer, index), sorted.
        model: The model that they belong to.
    """
    return NeuronSet(
        id="",
        model=model.name,
        fingerprint=model.fingerprint,
        layers=model.layers,
        width=model.width,
        method="imported",
        neurons=neurons,
    ).with_content_id()


def layer_pairs(indices: object, *, layer: int, param: str, model: ModelFolder) -> NDArray[np.int32]:
    """Return the neurons of one layer, int32 [k, 2] of (layer, index), sorted.

    Raises:
        InvalidRequest: The model has no such layer, or `indices` is not a list of distinct neuron indices.
    """
    if not isinstance(indices, Sequence) or isinstance(indices, str | bytes):
        raise InvalidRequest(f"{param} must be a list of neuron indices; got {quoted(indices)}", param=param)
    if not 0 <= layer < model.layers:
        raise InvalidRequest(f"{param}: {model.name} has layers 0 to {model.layers - 1}", param=param)
    for index in indices:
        if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < model.widths.of(layer):
            width = model.widths.of(layer)
            allowed = f"an index must be a whole number from 0 to {width - 1}" if width else "the layer has no MLP"
            raise InvalidRequest(f"{param}: {allowed}; got {index!r}", param=param)
    if len(set(indices)) != len(indices):
        (repeated, _), *_ = Counter(indices).most_common(1)
        raise InvalidRequest(f"{param}: neuron {repeated} is listed twice", param=param)
    return np.array([(layer, index) for index in sorted(indices)], dtype=np.int32).reshape(-1, 2)


def _language(code: object) -> str:
    if isinstance(code, str) and code.isdigit():
        raise InvalidRequest(
            f"a language code cannot be a number; got {code!r}. Layers belong inside languages: "
            "{language: {layer: [index, ...]}}",
            param="neurons",
        )
    return read_code(code, param="neurons")


def _by_layer(lists: Sequence[Sequence[object]], param: str, model: ModelFolder) -> dict[int, Sequence[object]]:
    """Return the lists by layer. Reject lists that could also be pairs (layer, index)."""
    if lists and all(isinstance(pair, list) and len(pair) == 2 for pair in lists):
        raise InvalidRequest(
            f"{param} is ambiguous: it may list [layer, index] pairs or two neurons for each layer; write "
            "{layer: [index, ...]}",
            param=param,
        )
    if len(lists) != model.layers:
        raise InvalidRequest(
            f"{param} has {len(lists)} layers, but {model.name} has {model.layers}; give the model that the neurons "
            "belong to",
            param=param,
        )
    return dict(enumerate(lists))


def _of_language(code: str, layers: object, model: ModelFolder) -> NDArray[np.int32]:
    param = f"neurons.{code}"
    if isinstance(layers, list | tuple) and all(isinstance(indices, list | tuple) for indices in layers):
        layers = _by_layer(layers, param, model)
    if not isinstance(layers, Mapping):
        raise InvalidRequest(f"{param} must be an object {{layer: [index, ...]}}; got {quoted(layers)}", param=param)
    numbered: dict[int, object] = {}
    for name, indices in layers.items():
        text = str(name)
        if isinstance(name, bool) or not (text.isascii() and text.isdigit() and len(text) <= _LAYER_DIGITS):
            raise InvalidRequest(
                f"{param}: a layer must be a whole number of at least 0; got {quoted(name)}", param=param
            )
        if int(text) in numbered:
            raise InvalidRequest(f"{param}: layer {int(text)} is listed twice", param=param)
        numbered[int(text)] = indices
    parts = [
        layer_pairs(indices, layer=layer, param=f"{param}.{layer}", model=model)
        for layer, indices in sorted(numbered.items())
    ]
    return np.concatenate([np.empty((0, 2), dtype=np.int32), *parts])
