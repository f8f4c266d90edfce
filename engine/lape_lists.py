"""Neuron sets from the `.pt` files that published LAPE code writes.

Such a file is a list over languages of a list over layers of index tensors. It carries no language codes, so the
caller gives them, in the file's order.
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ampsweep.errors import InvalidRequest
from ampsweep.folders.model import ModelFolder
from engine.neuron_json import import_set, layer_pairs
from engine.neuron_set import NeuronSet


def from_lape_lists(path: Path, *, languages: Sequence[str], model: ModelFolder) -> NeuronSet:
    """Read `path` as plain tensors (no code in it is run) and make a neuron set of it.

    Raises InvalidRequest where the file is something else, where it has another number of languages than `languages`
    or of layers than the model, and for indices that are duplicate or out of range.
    """
    try:
        lists = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError) as error:
        raise InvalidRequest(f"{path.name} cannot be read as lists of tensors: {error}", param="neurons") from error
    if not isinstance(lists, list) or not all(isinstance(layers, list) for layers in lists):
        raise InvalidRequest(f"{path.name} is not a list over languages of a list over layers", param="neurons")
    if len(set(languages)) != len(languages) or len(languages) != len(lists):
        raise InvalidRequest(
            f"{path.name} has {len(lists)} languages; name as many different ones, in its order (got {len(languages)})",
            param="languages",
        )
    neurons = {code: _of_language(code, layers, model) for code, layers in zip(languages, lists, strict=True)}
    return import_set(neurons, model=model)


def _of_language(code: str, layers: list[object], model: ModelFolder) -> NDArray[np.int32]:
    if len(layers) != model.layers:
        raise InvalidRequest(
            f"neurons.{code} has {len(layers)} layers; the model {model.layers}", param=f"neurons.{code}"
        )
    parts = []
    for layer, indices in enumerate(layers):
        param = f"neurons.{code}.{layer}"
        if not isinstance(indices, torch.Tensor) or indices.ndim != 1 or (len(indices) and not _whole(indices)):
            raise InvalidRequest(f"{param} must be one dimension of whole numbers", param=param)
        parts.append(layer_pairs(indices.long().tolist(), layer=layer, param=param, model=model))
    return np.concatenate(parts)


def _whole(indices: torch.Tensor) -> bool:
    return not indices.is_floating_point() and not indices.is_complex() and indices.dtype != torch.bool
