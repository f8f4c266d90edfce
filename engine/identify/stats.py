"""Activation statistics of a corpus: everything that a neuron set needs, in memory independent of its length."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ampsweep.domain.neurons.layer_widths import LayerWidths
from engine.identify.sentence_means import SentenceMeans

PATCH_SENTENCES = 100
"""Number of first sentences of a language that patch values and the method `activated` are computed from."""


@dataclass(frozen=True, kw_only=True)
class ActivationStats:
    """Activation statistics of G languages over L layers of F neurons, with a residual stream of H numbers.

    Where layers differ in width, arrays [G, L, F] are [G, N] instead, over the neurons of all layers.

    Patch statistics are over the first PATCH_SENTENCES sentences of a language, of each sentence's mean activation over
    its tokens.

    In a mixture of experts, only the tokens that were routed to a neuron's expert count for the neuron. Patch
    statistics leave out the sentences that have no such token, and are 0 if that is true of all.

    Attributes:
        widths: The neurons of each layer.
        languages: The languages, in the order of the axis G.
        counts: Number of tokens with activation > 0, int64 [G, L, F].
        tokens: Number of tokens, int64 [G].
        sentences: Number of sentences, int64 [G].
        patch_max: Maximum of the sentence means, float32 [G, L, F].
        patch_median: Lower median of the sentence means, float32 [G, L, F].
        patch_mean: Mean of the sentence means, float32 [G, L, F].
        positive: Number of patch sentences whose mean is above 0, int32 [G, L, F].
        patch_sentences: Number of patch sentences, int64 [G].
        residual_mean: Mean over the tokens of the residual at each layer's output, float32 [G, L, H]; 0 for a language
            without tokens.
        reached: Number of tokens that were routed to the neuron's expert, int64 [G, L, F]; all tokens in a layer
            without experts. None for a model without experts.
        residual_counts: Number of tokens whose residual at each layer's output is above 0 in each dimension, int64
            [G, L, H]; None if it was not recorded.
        sentence_means: The mean activations of all sentences, if they were recorded; whoever had them recorded closes
            them.
    """

    widths: LayerWidths
    languages: tuple[str, ...]
    counts: NDArray[np.int64]
    tokens: NDArray[np.int64]
    sentences: NDArray[np.int64]
    patch_max: NDArray[np.float32]
    patch_median: NDArray[np.float32]
    patch_mean: NDArray[np.float32]
    positive: NDArray[np.int32]
    patch_sentences: NDArray[np.int64]
    residual_mean: NDArray[np.float32]
    reached: NDArray[np.int64] | None = None
    residual_counts: NDArray[np.int64] | None = None
    sentence_means: SentenceMeans | None = None
