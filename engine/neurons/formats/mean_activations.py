"""Reads the mean activations of each language from the files that CLaS-Bench's recording saves with `torch.save`.

There is one file a language: a dict with `average_activations`, a tensor [layers, neurons] of the means over tokens.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ampsweep.errors import InvalidRequest
from engine.neurons.formats.tensor_file import read_tensors
from engine.neurons.neuron_set import NeuronSet, PatchValues

KEY = "average_activations"
PLACEHOLDER = "{language}"


def with_mean_activations(neuron_set: NeuronSet, pattern: str) -> NeuronSet:
    """Return a set with the patch values `mean`, and so `difference`, of all of its languages; its id changes.

    Args:
        neuron_set: The set.
        pattern: Path of the files, in which `{language}` stands for the code of a language.

    Raises:
        InvalidRequest: The pattern has no placeholder, a file is missing, or it holds something else.
    """
    if PLACEHOLDER not in pattern:
        message = f"must contain {PLACEHOLDER}, which stands for the code of a language; got {pattern}"
        raise InvalidRequest(message, param="means")
    means = [
        _means(Path(pattern.replace(PLACEHOLDER, language)), neuron_set.widths.shape)
        for language in neuron_set.languages
    ]
    return replace(neuron_set, patch=PatchValues(mean=np.stack(means))).with_content_id()


def _means(path: Path, shape: tuple[int, ...]) -> NDArray[np.float32]:
    if not path.is_file():
        raise InvalidRequest(f"there is no file {path}; each language of the set needs one", param="means")
    content = read_tensors(path)
    values = content.get(KEY) if isinstance(content, dict) else None
    if not isinstance(values, torch.Tensor) or not values.is_floating_point():
        message = f"{path.name} has no mean activations: it must be a dict with a tensor of floats named {KEY}"
        raise InvalidRequest(message, param="means")
    if tuple(values.shape) != shape:
        actual, wanted = (" x ".join(map(str, size)) for size in (tuple(values.shape), shape))
        raise InvalidRequest(f"{path.name} has means of {actual} neurons; the model has {wanted}", param="means")
    means: NDArray[np.float32] = values.float().numpy()
    if not (finite := np.isfinite(means)).all():
        place = np.argwhere(~finite)[0].tolist()
        neuron = f"neuron {place[-1]}" + (f" of layer {place[0]}" if len(place) > 1 else "")
        message = f"{path.name} must have finite means; got {means[tuple(place)]} for {neuron}"
        remedy = "record them again, in a dtype that can hold the model's activations, such as bfloat16"
        raise InvalidRequest(f"{message}; {remedy}", param="means")
    return means
