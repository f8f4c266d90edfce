"""How active the neurons of each language are at each token of a text, in a form that is small enough to be shown."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.base import Capture
from engine.capture.selection import NeuronSelection
from engine.neurons.neuron_set import NeuronSet
from engine.neurons.numbering import numbers_of

_DIGITS = 4


def language_activity(capture: Capture, neurons: NeuronSelection, neuron_set: NeuronSet) -> dict[str, Any]:
    """Return the activity of each language's neurons at each token, as an object of JSON.

    Args:
        capture: The activations of the neurons of all languages.
        neurons: These neurons.
        neuron_set: Their set.

    Returns:
        `neuron_set`, its id; `languages`, their codes; `neurons`, the number of neurons of each; `tokens`, each with
        `id` and `text`; `active` [T, G], the share of a language's neurons that are above 0; and `relative` [T, G], the
        sum of their activations divided by the sum of their largest values in that language (the patch value `max`),
        null for a set without these values, or where their sum is not above 0. Both have null for a language without
        neurons.
    """
    values = np.concatenate(capture.activations, axis=1)  # [T, all neurons], NaN where a token reaches no expert
    columns = [_columns(pairs, neurons) for pairs in neuron_set.neurons.values()]
    largest = None if neuron_set.patch is None else neuron_set.patch.max
    relative = None
    if largest is not None:
        by_language = [
            of_language.ravel()[numbers_of(pairs, neuron_set.widths)].sum(dtype=np.float64)
            for of_language, pairs in zip(largest, neuron_set.neurons.values(), strict=True)
        ]
        relative = [
            np.nansum(values[:, of_language], axis=1, dtype=np.float64) / most if most > 0 else None
            for of_language, most in zip(columns, by_language, strict=True)
        ]
    active = [(values[:, of_language] > 0).mean(axis=1) if len(of_language) else None for of_language in columns]
    return {
        "neuron_set": neuron_set.id,
        "languages": list(neuron_set.languages),
        "neurons": list(map(len, columns)),
        "tokens": [
            {"id": token, "text": text} for token, text in zip(capture.token_ids, capture.token_texts, strict=True)
        ],
        "active": _by_token(active, len(capture.token_ids)),
        "relative": None if relative is None else _by_token(relative, len(capture.token_ids)),
    }


def _columns(pairs: NDArray[np.int32], neurons: NeuronSelection) -> NDArray[np.int64]:
    """Return where the neurons [k, 2] of a language are among those that were captured."""
    starts = np.concatenate([[0], np.cumsum(neurons.counts)])
    columns = [np.empty(0, dtype=np.int64)]
    for start, layer, indices in zip(starts[:-1], neurons.layers, neurons.indices, strict=True):
        columns.append(start + np.searchsorted(indices, pairs[pairs[:, 0] == layer, 1]))
    return np.concatenate(columns)


def _by_token(by_language: list[NDArray[np.float64] | None], tokens: int) -> list[list[float | None]]:
    return [
        [
            None if values is None or not np.isfinite(values[token]) else round(float(values[token]), _DIGITS)
            for values in by_language
        ]
        for token in range(tokens)
    ]
