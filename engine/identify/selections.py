"""The selections that LAPE is compared with: always active, most probably active, and random."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from engine.identify.lape import probabilities
from engine.identify.stats import ActivationStats
from engine.neurons.random_selection import draw_neurons


def select_activated(stats: ActivationStats) -> dict[str, NDArray[np.int32]]:
    """Return for each language the neurons whose sentence mean is above 0 in all of its patch sentences.

    int32 [k, 2] of (layer, index), sorted; none for a language without sentences.
    """
    needed = np.maximum(stats.patch_sentences, 1)[:, None, None]
    always = stats.positive >= needed
    return {code: np.argwhere(always[at]).astype(np.int32) for at, code in enumerate(stats.languages)}


def select_act_prob(stats: ActivationStats, *, neurons: int) -> dict[str, NDArray[np.int32]]:
    """Return for each language the `neurons` neurons that are active at most of its tokens (all, if there are fewer).

    int32 [k, 2] of (layer, index), sorted. Of equal ones those of a lower layer, then of a lower index, come first.
    """
    p = probabilities(stats)
    selected = {}
    for at, code in enumerate(stats.languages):
        chosen = np.zeros(p[at].size, dtype=bool)
        chosen[np.argsort(-p[at].ravel(), kind="stable")[:neurons]] = True
        selected[code] = np.argwhere(chosen.reshape(p[at].shape)).astype(np.int32)
    return selected


def select_random(
    neurons: Mapping[str, NDArray[np.int32]], *, layers: int, width: int, seed: int
) -> dict[str, NDArray[np.int32]]:
    """Return for each language as many neurons a layer as it has in `neurons`, drawn with `seed` and its code.

    `neurons` and the result: int32 [k, 2] of (layer, index), sorted.
    """
    return {
        code: draw_neurons(np.bincount(pairs[:, 0], minlength=layers), width=width, key=[seed, code])
        for code, pairs in neurons.items()
    }
