"""Average precision: selects the neurons whose activation separates a language's sentences from all others.

Source: the second method of arXiv 2507.22581 (`ap` in its code).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ampsweep.domain.neurons.layer_widths import LayerWidths
from engine.identify.sentence_means import SentenceMeans
from engine.neurons.numbering import selected

_BLOCK = 2**22
"""Number of means that are ranked at a time; ranking needs about 50 bytes for each."""


def select_average_precision(
    means: SentenceMeans, languages: Sequence[str], *, neurons: int, widths: LayerWidths
) -> dict[str, NDArray[np.int32]]:
    """Select for each language the `neurons` neurons with the highest average precision; all if there are fewer.

    Ties go to the lower layer, then to the lower index.

    Args:
        means: The mean activations of all recorded sentences.
        languages: The languages of the result. One without sentences gets no neurons.
        neurons: Number of neurons of each language.
        widths: The neurons of each layer.

    Returns:
        The neurons of each language, int32 [k, 2] of (layer, index), sorted.
    """
    from scipy.stats import rankdata

    sentence_languages = np.array(means.languages)
    precisions = np.zeros((len(languages), widths.total))
    for first, block in means.blocks(max(1, _BLOCK // max(1, len(sentence_languages)))):
        ranks = rankdata(-block, method="max", axis=0)
        for index, language in enumerate(languages):
            positive_ranks = ranks[sentence_languages == language]
            if len(positive_ranks):
                precisions[index, first : first + block.shape[1]] = _average_precision(positive_ranks)
    neurons_of = {}
    for index, language in enumerate(languages):
        chosen = np.zeros(widths.total, dtype=bool)
        if language in means.languages:
            chosen[np.argsort(-precisions[index], kind="stable")[:neurons]] = True
        neurons_of[language] = selected(chosen, widths)
    return neurons_of


def _average_precision(ranks: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the average precision of N scores, float64 [N], as scikit-learn's `average_precision_score` defines it.

    Lowering the threshold to the score of each positive sentence in turn, it is the mean of the precision: the number
    of positive sentences with at least that score divided by the number of all sentences with at least that score.

    Args:
        ranks: Number of sentences whose score is at least that of each positive sentence, [P, N].
    """
    from scipy.stats import rankdata

    precision: NDArray[np.float64] = np.mean(rankdata(ranks, method="max", axis=0) / ranks, axis=0)
    return precision
