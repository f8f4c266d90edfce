"""The selections that LAPE is compared with: always active, most often active, and random."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ampsweep.domain.neurons.layer_widths import LayerWidths
from engine.identify.lape import probabilities
from engine.identify.stats import ActivationStats
from engine.neurons.numbering import selected
from engine.neurons.random_selection import draw_neurons


def select_activated(stats: ActivationStats) -> dict[str, NDArray[np.int32]]:
    """Select for each language the neurons whose mean over a sentence is above 0 in all of its patch sentences.

    Returns:
        The neurons of each language, int32 [k, 2] of (layer, index), sorted; none for a language without sentences.
    """
    needed = np.maximum(stats.patch_sentences, 1)
    return {
        code: selected(stats.positive[index] >= needed[index], stats.widths)
        for index, code in enumerate(stats.languages)
    }


def select_act_prob(stats: ActivationStats, *, neurons: int) -> dict[str, NDArray[np.int32]]:
    """Select for each language the `neurons` neurons with the highest activation probability; all if there are fewer.

    Ties go to the lower layer, then to the lower index.

    Returns:
        The neurons of each language, int32 [k, 2] of (layer, index), sorted.
    """
    p = probabilities(stats)
    neurons_of = {}
    for index, code in enumerate(stats.languages):
        chosen = np.zeros(p[index].size, dtype=bool)
        chosen[np.argsort(-p[index], kind="stable")[:neurons]] = True
        neurons_of[code] = selected(chosen, stats.widths)
    return neurons_of


def select_random(
    neurons: Mapping[str, NDArray[np.int32]], *, widths: LayerWidths, seed: int
) -> dict[str, NDArray[np.int32]]:
    """Draw for each language as many neurons in every layer as it has in `neurons`.

    Args:
        neurons: The neurons of each language, int32 [k, 2] of (layer, index), sorted.
        widths: The neurons of each layer.
        seed: Seed of the draw, together with the code of the language.

    Returns:
        The drawn neurons, in the form of `neurons`.
    """
    return {
        code: draw_neurons(np.bincount(pairs[:, 0], minlength=widths.layers), widths=widths, key=[seed, code])
        for code, pairs in neurons.items()
    }
