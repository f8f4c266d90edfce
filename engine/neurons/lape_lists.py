"""Neuron sets from what published LAPE code, and code built on it, writes with `torch.save`.

The published form is a list over languages of a list over layers of index tensors. It carries no language codes, so the
caller gives them, in the file's order. A dict by language names its own. In place of index tensors there may be plain
lists, or boolean masks over the neurons. What else those projects save with `torch.save` is told apart and refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from ampsweep.domain.languages import one_language_twice
from ampsweep.errors import InvalidRequest
from ampsweep.folders.model import ModelFolder
from engine.neurons.neuron_json import from_json
from engine.neurons.neuron_set import NeuronSet
from engine.neurons.tensor_file import read_tensors


def from_lape_lists(path: Path, *, languages: Sequence[str] | None, model: ModelFolder) -> NeuronSet:
    """Read `path` as plain tensors (no code in it is run) and make a neuron set of it.

    `languages` names those of a list over languages, and is None for a dict by language. Raises InvalidRequest where
    the file is something else, where it has another number of languages than `languages` or of layers than the model,
    and for indices that are duplicate, out of range, no whole numbers, or of a dtype that rounds them.
    """
    content = read_tensors(path)
    named: Mapping[str, object]
    if isinstance(content, dict) and _is_by_language(content):
        if languages is not None:
            raise InvalidRequest(f"{path.name} names its languages itself; leave them out", param="languages")
        named = content
    else:
        named = _named(path.name, _lists(path.name, content), languages)
    return from_json({code: _layers(code, layers, model) for code, layers in named.items()}, model=model)


def _is_by_language(content: Mapping[object, object]) -> bool:
    values = content.values()
    return "over_zero" not in content and all(isinstance(each, list | tuple | dict | torch.Tensor) for each in values)


def _named(name: str, lists: Sequence[object], languages: Sequence[str] | None) -> dict[str, object]:
    if languages is None:
        raise InvalidRequest(
            f"{name} does not name its languages: give their codes in its order as --languages, or the file "
            "that names them as --languages-from",
            param="languages",
        )
    if len(languages) != len(lists):
        raise InvalidRequest(
            f"{name} has {len(lists)} languages, {len(languages)} are named ({', '.join(languages) or 'none'}); "
            "name each of the file's, in its order. Published code drops languages without neurons at the end",
            param="languages",
        )
    if len(set(languages)) != len(languages):
        raise InvalidRequest(f"each language must be named once; got {', '.join(languages)}", param="languages")
    if twice := one_language_twice(languages):
        raise InvalidRequest(twice, param="languages")
    return dict(zip(languages, lists, strict=True))


def _lists(name: str, content: object) -> Sequence[object]:
    if _is_mask(content, 3) or (
        isinstance(content, list | tuple)
        and content
        and all(isinstance(layers, list | tuple) or _is_mask(layers, 2) for layers in content)
    ):
        return list(content)  # type: ignore[call-overload, no-any-return]  # a mask is iterated by language
    raise InvalidRequest(f"{name} has no neurons by language and layer: {_instead(content)}", param="neurons")


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


def _layers(code: str, layers: object, model: ModelFolder) -> object:
    """Return a language's neurons as `from_json` takes them, tensors written out."""
    if isinstance(layers, Mapping):
        return {layer: _indices(indices, f"neurons.{code}.{layer}", model) for layer, indices in layers.items()}
    if isinstance(layers, list | tuple) or _is_mask(layers, 2):
        by_layer = list(layers)  # type: ignore[call-overload]  # a mask is iterated by layer
        return [_indices(indices, f"neurons.{code}.{layer}", model) for layer, indices in enumerate(by_layer)]
    raise InvalidRequest(f"neurons.{code} must be a list over layers of index tensors", param=f"neurons.{code}")


def _indices(indices: object, param: str, model: ModelFolder) -> object:
    """Return the indices of one layer. Those of a tensor are a tuple: a list could be one of (layer, index)."""
    if not isinstance(indices, torch.Tensor):
        return indices
    if indices.ndim == 2 and indices.shape[1] == 1:
        indices = indices[:, 0]  # as torch.nonzero gives them
    if indices.ndim != 1:
        shape = " x ".join(map(str, indices.shape))
        raise InvalidRequest(f"{param} must have one dimension; it is {shape}", param=param)
    if indices.dtype == torch.bool:
        if len(indices) != model.width:
            raise InvalidRequest(
                f"{param} is a mask over {len(indices)} neurons, {model.name} has {model.width}", param=param
            )
        return tuple(indices.nonzero()[:, 0].tolist())
    if len(indices) == model.width > 2 and ((indices == 0) | (indices == 1)).all():
        raise InvalidRequest(f"{param} is a mask of 0 and 1; save it as torch.bool, or its nonzero()", param=param)
    if indices.is_complex() or (indices.is_floating_point() and (indices != indices.round()).any()):
        raise InvalidRequest(f"{param} must be whole numbers", param=param)
    if indices.is_floating_point() and len(indices) and indices.max() >= (exact := 2 / torch.finfo(indices.dtype).eps):
        raise InvalidRequest(
            f"{param}: {indices.dtype} rounds whole numbers from {exact:.0f} on, so its indices may be others than "
            "were found; save them as torch.int64",
            param=param,
        )
    return tuple(indices.long().tolist())


def _is_mask(value: object, dimensions: int) -> bool:
    return isinstance(value, torch.Tensor) and value.dtype == torch.bool and value.ndim == dimensions
