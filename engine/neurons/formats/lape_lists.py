"""Reads neurons from files that published LAPE code, and code built on it, saves with `torch.save`.

The published format is a list over languages of a list over layers of index tensors. It holds no language codes, so the
caller gives them in the file's order; `read_language_order` reads them from the file that lang-task-neuron writes next
to the neurons. A dict by language holds the codes itself. Plain lists, or boolean masks over the neurons, may replace
the index tensors. Other files of these projects are recognized and rejected.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from ampsweep.domain.languages.codes import one_language_twice, read_code, short_code, wrong_code
from ampsweep.errors import InvalidRequest
from ampsweep.folders.model import ModelFolder
from engine.neurons.formats.neuron_json import from_json
from engine.neurons.formats.tensor_file import read_tensors
from engine.neurons.neuron_set import NeuronSet


def from_lape_lists(path: Path, *, languages: Sequence[str] | None, model: ModelFolder) -> NeuronSet:
    """Read a neuron set from a file of `torch.save`, without running code that the file may contain.

    Args:
        path: The file.
        languages: The languages of a list over languages, in its order; None for a dict by language.
        model: The model that the neurons belong to.

    Returns:
        The neuron set, without patch values.

    Raises:
        InvalidRequest: The file holds something else, its numbers of languages or layers do not match `languages` or
            the model, or indices are duplicate, out of range, not whole numbers, or of a dtype that may have rounded
            them.
    """
    content = read_tensors(path)
    by_language: Mapping[str, object]
    if isinstance(content, dict) and _is_by_language(content):
        if languages is not None:
            raise InvalidRequest(f"{path.name} names its languages itself; leave them out", param="languages")
        by_language = content
    else:
        by_language = _with_languages(path.name, _lists(path.name, content), languages)
    return from_json({code: _layers(code, layers, model) for code, layers in by_language.items()}, model=model)


def read_language_order(path: Path) -> tuple[str, ...]:
    """Read the languages of a list over languages from `{0: code, 1: code, ...}` (`ld_...`, the `lang_dict`).

    Returns:
        The languages in order, each as `short_code` writes it.

    Raises:
        InvalidRequest: The file holds something else, or two of its codes mean the same language.
    """
    content = read_tensors(path)
    if not isinstance(content, dict) or sorted(map(str, content)) != sorted(map(str, range(len(content)))):
        raise InvalidRequest(
            f"{path.name} must hold {{0: code, 1: code, ...}}, as lang-task-neuron writes it", param="languages_from"
        )
    codes = [content[position] for position in range(len(content))]
    if not codes:
        raise InvalidRequest(f"{path.name} names no language", param="languages_from")
    for code in codes:
        if wrong := wrong_code(code):
            raise InvalidRequest(f"{path.name}: {wrong}", param="languages_from")
    if repeated := one_language_twice(codes):
        raise InvalidRequest(f"{path.name}: {repeated}", param="languages_from")
    return tuple(short_code(code) for code in codes)


def _is_by_language(content: Mapping[object, object]) -> bool:
    values = content.values()
    return "over_zero" not in content and all(isinstance(value, list | tuple | dict | torch.Tensor) for value in values)


def _with_languages(name: str, lists: Sequence[object], languages: Sequence[str] | None) -> dict[str, object]:
    if languages is None:
        raise InvalidRequest(
            f"{name} does not name its languages; give their codes in the file's order as --languages, or the file "
            "that names them as --languages-from",
            param="languages",
        )
    if len(languages) != len(lists):
        raise InvalidRequest(
            f"{name} has {len(lists)} languages, but {len(languages)} are named ({', '.join(languages) or 'none'}); "
            "name all languages of the file, in its order. Published code drops languages without neurons at the end",
            param="languages",
        )
    for code in languages:
        read_code(code, param="languages")
    if len(set(languages)) != len(languages):
        raise InvalidRequest(f"each language must be named once; got {', '.join(languages)}", param="languages")
    if repeated := one_language_twice(languages):
        raise InvalidRequest(repeated, param="languages")
    return dict(zip(languages, lists, strict=True))


def _lists(name: str, content: object) -> Sequence[object]:
    if _is_mask(content, 3) or (
        isinstance(content, list | tuple)
        and content
        and all(isinstance(layers, list | tuple) or _is_mask(layers, 2) for layers in content)
    ):
        return list(content)  # type: ignore[call-overload, no-any-return]  # a mask is iterated by language
    raise InvalidRequest(f"{name} has no neurons by language and layer: {_mismatch(content)}", param="neurons")


def _mismatch(content: object) -> str:
    """Return what a file without neurons holds, and which file of the same project to give instead."""
    first = content[0] if isinstance(content, list) and content else content
    if isinstance(first, dict) and "over_zero" in first:
        return "it counts activations; give the file that the project's LAPE script computes from it"
    if isinstance(first, dict):
        return "it names languages; give it as --languages-from, together with the file of neurons"
    if isinstance(content, torch.Tensor) and content.is_floating_point():
        shape = " x ".join(map(str, content.shape))
        return f"it is one tensor of values ({shape}); give the lists that were selected by them"
    return "it must be a list over languages of a list over layers of index tensors"


def _layers(code: str, layers: object, model: ModelFolder) -> object:
    """Return a language's neurons in a form that `from_json` accepts, without tensors."""
    if isinstance(layers, Mapping):
        return {
            name: _indices(indices, f"neurons.{code}.{name}", _width(model, name)) for name, indices in layers.items()
        }
    if isinstance(layers, list | tuple) or _is_mask(layers, 2):
        by_layer = list(layers)  # type: ignore[call-overload]  # a mask is iterated by layer
        return [
            _indices(indices, f"neurons.{code}.{layer}", _width(model, layer)) for layer, indices in enumerate(by_layer)
        ]
    raise InvalidRequest(f"neurons.{code} must be a list over layers of index tensors", param=f"neurons.{code}")


def _width(model: ModelFolder, layer: object) -> int:
    """Return the width of a layer, given as a number or its decimal text; that of layer 0 if there is no such layer.

    `from_json` rejects a layer that does not exist.
    """
    is_layer = str(layer).isdecimal() and int(str(layer)) < model.layers
    return model.widths.of(int(str(layer)) if is_layer else 0)


def _indices(indices: object, param: str, width: int) -> object:
    """Return the indices of a layer of `width` neurons; a tensor as a tuple, because a list could be (layer, index)."""
    if not isinstance(indices, torch.Tensor):
        return indices
    if indices.ndim == 2 and indices.shape[1] == 1:
        indices = indices[:, 0]  # the shape that torch.nonzero returns
    if indices.ndim != 1:
        shape = " x ".join(map(str, indices.shape))
        raise InvalidRequest(f"{param} must have one dimension; its shape is {shape}", param=param)
    if indices.dtype == torch.bool:
        if len(indices) != width:
            raise InvalidRequest(f"{param} is a mask over {len(indices)} neurons; the layer has {width}", param=param)
        return tuple(indices.nonzero()[:, 0].tolist())
    if len(indices) == width > 2 and ((indices == 0) | (indices == 1)).all():
        raise InvalidRequest(f"{param} is a mask of 0 and 1; save it as torch.bool, or its nonzero()", param=param)
    if indices.is_complex() or (indices.is_floating_point() and (indices != indices.round()).any()):
        raise InvalidRequest(f"{param} must be whole numbers; save the indices as torch.int64", param=param)
    if indices.is_floating_point() and len(indices) and indices.max() >= (exact := 2 / torch.finfo(indices.dtype).eps):
        raise InvalidRequest(
            f"{param}: {indices.dtype} rounds whole numbers from {exact:.0f} on, so its indices may have changed; save "
            "them as torch.int64",
            param=param,
        )
    return tuple(indices.long().tolist())


def _is_mask(value: object, dimensions: int) -> bool:
    return isinstance(value, torch.Tensor) and value.dtype == torch.bool and value.ndim == dimensions
