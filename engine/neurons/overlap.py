"""Overlap of neuron sets and of their languages: the Jaccard index of their neurons, by language and layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

Neurons = Mapping[str, NDArray[np.int32]]
"""The neurons of each language, int32 [k, 2] of (layer, index), sorted, without duplicates."""


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """How many neurons two sets or languages have, and how many of them are the same.

    Attributes:
        a: Number of neurons in the first one.
        b: Number of neurons in the second one.
        shared: Number of neurons in both.
        by_layer: The Jaccard index in each layer; None in layers where neither has neurons.
    """

    a: int
    b: int
    shared: int
    by_layer: tuple[float | None, ...]

    @property
    def jaccard(self) -> float | None:
        """Shared neurons as a share of all neurons of both; None if there are none."""
        return _jaccard(self.a, self.b, self.shared)


def overlap_by_language(a: Neurons, b: Neurons, *, layers: int) -> dict[str, Overlap]:
    """Compare the neurons of each language that both sets have, in the order of the first set.

    Args:
        a: The first set.
        b: The second set, of the same model.
        layers: Number of layers of the model.
    """
    return {language: overlap(a[language], b[language], layers=layers) for language in a if language in b}


def overlap_of_languages(neurons: Neurons, *, layers: int) -> dict[tuple[str, str], Overlap]:
    """Compare the neurons of each language of a set with those of each language after it."""
    return {(a, b): overlap(neurons[a], neurons[b], layers=layers) for a, b in combinations(neurons, 2)}


def overlap(a: NDArray[np.int32], b: NDArray[np.int32], *, layers: int) -> Overlap:
    """Compare two lists of neurons, int32 [k, 2] of (layer, index). A neuron that is twice in a list counts once."""
    first, second = (np.unique(pairs.reshape(-1, 2), axis=0) for pairs in (a, b))
    joined, occurrences = np.unique(np.concatenate([first, second]), axis=0, return_counts=True)
    counts = [np.bincount(pairs[:, 0], minlength=layers) for pairs in (first, second, joined[occurrences == 2])]
    in_a, in_b, shared = (count.tolist() for count in counts)
    return Overlap(
        a=sum(in_a),
        b=sum(in_b),
        shared=sum(shared),
        by_layer=tuple(map(_jaccard, in_a, in_b, shared)),
    )


def all_neurons(neurons: Neurons) -> NDArray[np.int32]:
    """Return the neurons of all languages in one list, in which a neuron of several languages occurs several times."""
    return np.concatenate([*neurons.values(), np.empty((0, 2), dtype=np.int32)])


def _jaccard(a: int, b: int, shared: int) -> float | None:
    either = a + b - shared
    return shared / either if either else None
