"""What a recording leaves behind: all that the selections need, in memory that does not grow with the corpus."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PATCH_SENTENCES = 100
"""Patch values and `activated` look at this many first sentences of a language."""


@dataclass(frozen=True, kw_only=True)
class ActivationStats:
    """Activation statistics of G languages over L layers of F neurons.

    `counts` int64 [G, L, F]: tokens with activation > 0. `tokens` int64 [G], `sentences` int64 [G]: how many were read.
    Over the first PATCH_SENTENCES sentences of a language, of each sentence's mean activation over its tokens:
    `patch_max`, `patch_median` (the lower one), `patch_mean` float32 [G, L, F], and `positive` int32 [G, L, F], the
    number of those sentences whose mean is above 0. `patch_sentences` int64 [G]: how many there were.
    """

    languages: tuple[str, ...]
    counts: NDArray[np.int64]
    tokens: NDArray[np.int64]
    sentences: NDArray[np.int64]
    patch_max: NDArray[np.float32]
    patch_median: NDArray[np.float32]
    patch_mean: NDArray[np.float32]
    positive: NDArray[np.int32]
    patch_sentences: NDArray[np.int64]
