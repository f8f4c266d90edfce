"""Activation statistics with given counts."""

from __future__ import annotations

from typing import Any

import numpy as np

from ampsweep.domain.neurons.layer_widths import LayerWidths
from engine.identify.stats import ActivationStats


def make_stats(
    counts: Any,
    tokens: Any,
    *,
    positive: Any = None,
    patch_sentences: Any = None,
    widths: LayerWidths | None = None,
    reached: Any = None,
    residual_counts: Any = None,
) -> ActivationStats:
    """Make the statistics of languages a, b, ... from counts [G, L, F] and tokens [G]; patch values are 0.

    With `widths` of layers that differ, counts are [G, N].
    """
    counted = np.asarray(counts, dtype=np.int64)
    zeros = np.zeros(counted.shape, dtype=np.float32)
    sentences = np.ones(len(counted), dtype=np.int64) if patch_sentences is None else np.asarray(patch_sentences)
    return ActivationStats(
        widths=widths or LayerWidths(*counted.shape[1:]),
        languages=tuple("abcdefgh"[: len(counted)]),
        counts=counted,
        tokens=np.asarray(tokens, dtype=np.int64),
        sentences=sentences,
        patch_max=zeros,
        patch_median=zeros,
        patch_mean=zeros,
        positive=zeros.astype(np.int32) if positive is None else np.asarray(positive, dtype=np.int32),
        patch_sentences=sentences,
        residual_mean=zeros,
        reached=None if reached is None else np.asarray(reached, dtype=np.int64),
        residual_counts=None if residual_counts is None else np.asarray(residual_counts, dtype=np.int64),
    )
