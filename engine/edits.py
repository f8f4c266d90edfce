"""An intervention with a neuron set, worked out: which activations change, and how. Numpy only.

Every op is the same arithmetic, a' = mult * a + add: scale f is (f, 0), add v is (1, v), set v is (0, v). Which tokens
it applies to (the scope) is left to the engine.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ampsweep.errors import InvalidRequest, UnknownName
from engine.intervention import Intervention, Op
from engine.neuron_set import NeuronSet
from engine.random_neurons import draw_neurons


@dataclass(frozen=True, kw_only=True, eq=False)
class Edits:
    """The changed neurons of L layers, as compressed rows.

    Layer l has the entries offsets[l]:offsets[l + 1] of `indices` (int32, ascending inside a layer, no duplicates),
    `mult` and `add` (float32), meaning a' = mult * a + add. `offsets` is int64 [L + 1].
    """

    offsets: NDArray[np.int64]
    indices: NDArray[np.int32]
    mult: NDArray[np.float32]
    add: NDArray[np.float32]

    def layer(self, layer: int) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.float32]]:
        """Return `indices`, `mult` and `add` of one layer."""
        own = slice(int(self.offsets[layer]), int(self.offsets[layer + 1]))
        return self.indices[own], self.mult[own], self.add[own]


def resolve(intervention: Intervention, neuron_set: NeuronSet) -> Edits:
    """Work out which neurons of the set's model the intervention changes, and how.

    Several languages are taken together. Where a neuron belongs to the target and to the others of `non_target`, the
    target's op wins. Random neurons are as many a layer as the languages have together; which ones depends on the
    neuron set, the languages and the seed alone, so that a sweep over factors keeps its control.

    Raises UnknownName for a language that the set has not, InvalidRequest for a layer that the model has not and for
    a patch value where the set has none.
    """
    for code in intervention.languages:
        if code not in neuron_set.neurons:
            raise UnknownName("language", code, neuron_set.languages, param="intervention.languages")
    if intervention.layers is not None and max(intervention.layers) >= neuron_set.layers:
        raise InvalidRequest(
            f"layers {list(intervention.layers)}: the model has layers 0 to {neuron_set.layers - 1}",
            param="intervention.layers",
        )
    target = _target(intervention, neuron_set)
    mult, add = _affine(intervention.op, _magnitude(intervention, neuron_set, target))
    flat = target
    if intervention.non_target is not None:
        others = [code for code in neuron_set.languages if code not in intervention.languages]
        rest = np.setdiff1d(_union(neuron_set, others), target, assume_unique=True)
        magnitude = np.full(len(rest), intervention.non_target.factor, dtype=np.float32)
        rest_mult, rest_add = _affine(intervention.non_target.op, magnitude)
        flat, mult, add = np.append(target, rest), np.append(mult, rest_mult), np.append(add, rest_add)
    if intervention.layers is not None:
        kept = np.isin(flat // neuron_set.width, intervention.layers)
        flat, mult, add = flat[kept], mult[kept], add[kept]
    order = np.argsort(flat)
    flat, mult, add = flat[order], mult[order], add[order]
    offsets = np.searchsorted(flat, np.arange(neuron_set.layers + 1, dtype=np.int64) * neuron_set.width)
    return Edits(
        offsets=offsets.astype(np.int64), indices=(flat % neuron_set.width).astype(np.int32), mult=mult, add=add
    )


def _flat(neuron_set: NeuronSet, language: str) -> NDArray[np.int64]:
    pairs = neuron_set.neurons[language].astype(np.int64)
    flat: NDArray[np.int64] = pairs[:, 0] * neuron_set.width + pairs[:, 1]
    return flat


def _union(neuron_set: NeuronSet, languages: list[str]) -> NDArray[np.int64]:
    """Return the neurons of any of the languages, each once, ascending by layer * width + index."""
    return np.unique(np.concatenate([np.empty(0, dtype=np.int64), *(_flat(neuron_set, code) for code in languages)]))


def _target(intervention: Intervention, neuron_set: NeuronSet) -> NDArray[np.int64]:
    own = _union(neuron_set, list(intervention.languages))
    if intervention.selection is None:
        return own
    per_layer = np.bincount(own // neuron_set.width, minlength=neuron_set.layers)
    key = [neuron_set.id, list(intervention.languages), intervention.seed]
    drawn = draw_neurons(per_layer, width=neuron_set.width, key=key).astype(np.int64)
    flat: NDArray[np.int64] = drawn[:, 0] * neuron_set.width + drawn[:, 1]
    return flat


def _magnitude(intervention: Intervention, neuron_set: NeuronSet, target: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the target neurons' magnitudes, float32: the factor, or their patch values times the factor."""
    if intervention.patch is None:
        return np.full(len(target), intervention.factor, dtype=np.float32)
    if neuron_set.patch is None:
        raise InvalidRequest(
            f"neuron set {neuron_set.id} has no patch values: it was imported, not recorded; use a factor alone",
            param="intervention.patch",
        )
    values = neuron_set.patch.of(intervention.patch).reshape(len(neuron_set.languages), -1)
    rows = np.array([neuron_set.languages.index(code) for code in intervention.languages])
    recorded = values[rows[:, None], target].astype(np.float64)
    if intervention.selection is None:
        owns = np.stack([np.isin(target, _flat(neuron_set, code)) for code in intervention.languages])
    else:  # a random neuron belongs to none of the languages, so all of them speak for it
        owns = np.ones(recorded.shape, dtype=bool)
    mean = (recorded * owns).sum(axis=0) / owns.sum(axis=0)
    patched: NDArray[np.float32] = (mean * intervention.factor).astype(np.float32)
    return patched


def _affine(op: Op, magnitude: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return `mult` and `add` of an op, float32 like the magnitudes."""
    if op == "scale":
        return magnitude, np.zeros_like(magnitude)
    return (np.ones_like if op == "add" else np.zeros_like)(magnitude), magnitude
