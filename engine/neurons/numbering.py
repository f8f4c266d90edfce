"""Converts between neurons as pairs (layer, index) and their numbers, counted through all layers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ampsweep.domain.neurons.layer_widths import LayerWidths


def numbers_of(pairs: NDArray[np.integer], widths: LayerWidths) -> NDArray[np.int64]:
    """Return the numbers of neurons (layer, index), [k, 2]: int64 [k], in the same order."""
    numbers: NDArray[np.int64] = _offsets(widths)[pairs[:, 0]] + pairs[:, 1]
    return numbers


def pairs_of(numbers: NDArray[np.integer], widths: LayerWidths) -> NDArray[np.int32]:
    """Return the neurons with these numbers, [k], as (layer, index): int32 [k, 2], in the same order."""
    layers = layers_of(numbers, widths)
    return np.stack([layers, numbers - _offsets(widths)[layers]], axis=1).astype(np.int32)


def layers_of(numbers: NDArray[np.integer], widths: LayerWidths) -> NDArray[np.int64]:
    """Return the layer of each number, int64 [k]."""
    layers: NDArray[np.int64] = np.searchsorted(_offsets(widths), numbers, side="right") - 1
    return layers


def selected(chosen: NDArray[np.bool_], widths: LayerWidths) -> NDArray[np.int32]:
    """Return the chosen neurons as (layer, index), int32 [k, 2], sorted; `chosen` has an element for each neuron."""
    return pairs_of(np.flatnonzero(chosen), widths)


def outside(pairs: NDArray[np.integer], widths: LayerWidths) -> NDArray[np.bool_]:
    """Return which of the neurons (layer, index), [k, 2], the model does not have, bool [k]."""
    layers, indices = pairs[:, 0], pairs[:, 1]
    missing = (layers < 0) | (layers >= widths.layers)
    width = np.array(widths.by_layer)[np.where(missing, 0, layers)]
    beyond: NDArray[np.bool_] = missing | (indices < 0) | (indices >= width)
    return beyond


def _offsets(widths: LayerWidths) -> NDArray[np.int64]:
    return np.array(widths.offsets, dtype=np.int64)
