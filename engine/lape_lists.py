"""Neuron sets from the lists of tensors that published LAPE code, and code built on it, writes with `torch.save`.

Such a file is a list over languages of a list over layers of index tensors. It carries no language codes, so the
caller gives them, in the file's order. What else those projects save with `torch.save` is told apart and refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ampsweep.errors import InvalidRequest
from ampsweep.folders.model import ModelFolder
from engine.neuron_json import import_set, layer_pairs
from engine.neuron_set import NeuronSet
from engine.tensor_file import read_tensors


def from_lape_lists(path: Path, *, languages: Sequence[str], model: ModelFolder) -> NeuronSet:
    """Read `path` as plain tensors (no code in it is run) and make a neuron set of it.

    Raises InvalidRequest where the file is something else, where it has another number of languages than `languages`
    or of layers than the model, and for indices that are duplicate, no whole numbers or out of range.
    """
    lists = _lists(path)
    if len(languages) != len(lists):
        raise InvalidRequest(
            f"{path.name} has {len(lists)} languages, {len(languages)} are named ({', '.join(languages) or 'none'}); "
            "name each of the file's, in its order. Published code drops languages without neurons at the end",
            param="languages",
        )
    if len(set(languages)) != len(languages):
        raise InvalidRequest(f"each language must be named once; got {', '.join(languages)}", param="languages")
    neurons = {code: _of_language(code, layers, model) for code, layers in zip(languages, lists, strict=True)}
    return import_set(neurons, model=model)


def _lists(path: Path) -> list[list[object]]:
    content = read_tensors(path)
    if isinstance(content, list) and content and all(isinstance(layers, list) for layers in content):
        return content
    raise InvalidRequest(f"{path.name} has no neurons by language and layer: {_instead(content)}", param="neurons")


def _instead(content: object) -> str:
    """Say what a file of those projects holds that is not neurons, and which of their files does."""
    first = content[0] if isinstance(content, list) and content else content
    if isinstance(first, dict) and "over_zero" in first:
        return "it counts activations; give the file that the project's LAPE script makes of it"
    if isinstance(first, dict):
        return "it names languages; give it as --languages-from beside the file of neurons"
    if isinstance(content, torch.Tensor) and content.is_floating_point():
        shape = " x ".join(map(str, content.shape))
        return f"it is one tensor of values ({shape}); give the lists that were selected by them"
    return "it must be a list over languages of a list over layers of index tensors"


def _of_language(code: str, layers: list[object], model: ModelFolder) -> NDArray[np.int32]:
    if len(layers) != model.layers:
        raise InvalidRequest(
            f"neurons.{code} has {len(layers)} layers, {model.name} has {model.layers}; give the model it was made for",
            param=f"neurons.{code}",
        )
    parts = []
    for layer, indices in enumerate(layers):
        param = f"neurons.{code}.{layer}"
        if not isinstance(indices, torch.Tensor) or indices.ndim != 1 or not _whole(indices):
            raise InvalidRequest(f"{param} must be one dimension of whole numbers", param=param)
        parts.append(layer_pairs(indices.long().tolist(), layer=layer, param=param, model=model))
    return np.concatenate(parts)


def _whole(indices: torch.Tensor) -> bool:
    """Whether all are whole numbers, in whatever dtype: an empty `torch.tensor([])`, for one, is float32."""
    if indices.is_complex() or indices.dtype == torch.bool:
        return False
    return not indices.is_floating_point() or bool((indices == indices.round()).all())
