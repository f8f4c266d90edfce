"""What one worker recorded of one or more sentences, and how the parts of all workers are joined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ampsweep.domain.neurons.layer_widths import LayerWidths
from engine.vllm.worker.table import Shard


@dataclass(frozen=True, kw_only=True, eq=False)
class RecordedPart:
    """Counts and sums of the layers and neurons of one shard, over one sentence or several that were added up.

    Attributes:
        keys: Names of the sentences.
        shard: The worker's part of the model.
        counts: How often each neuron was above 0, int32 of the shape `shard.widths.shape`.
        sums: Sums of activations, float32 of the same shape; None if they were not requested.
        residual: Sums of the residual stream at the output of the shard's layers, float64 [layers of the shard, H],
            a layer with two rows counted once. Tensor-parallel workers all have the same.
        residual_counts: How often the residual stream was above 0 at the output of the shard's layers, int32 [layers of
            the shard, H], the same on all tensor-parallel workers; None if it was not requested.
        reached: How many tokens were routed to each neuron's expert, int32 of the shape of `counts`; None for a model
            without experts.
    """

    keys: tuple[str, ...]
    shard: Shard
    counts: NDArray[np.int32]
    sums: NDArray[np.float32] | None
    residual: NDArray[np.float64]
    residual_counts: NDArray[np.int32] | None = None
    reached: NDArray[np.int32] | None = None


def join_parts(
    parts: Sequence[RecordedPart], widths: LayerWidths
) -> tuple[NDArray[np.int32], NDArray[np.float32] | None, NDArray[np.float64]]:
    """Return the counts, sums and residual of the whole model; the parts may be in any order.

    Counts and sums have the shape `widths.shape`, the residual is [layers, H]. Sums are None if not requested.
    """
    if len(parts) == 1:
        (part,) = parts
        assert part.counts.size == widths.total, "a single worker must hold the whole model"
        summed_once = None if part.sums is None else part.sums.reshape(widths.shape)
        return part.counts.reshape(widths.shape), summed_once, part.residual
    counts = np.zeros(widths.shape, dtype=np.int32)
    sums = np.zeros(widths.shape, dtype=np.float32)
    residual = np.zeros((widths.layers, parts[0].residual.shape[1]))
    copies = np.zeros(widths.total, dtype=np.int64)
    summed = all(part.sums is not None for part in parts)
    for part in parts:
        neurons = _numbers(part.shard, widths)
        counts.flat[neurons] = part.counts.ravel()
        residual[part.shard.distinct_layers] = part.residual
        if part.sums is not None:
            sums.flat[neurons] = part.sums.ravel()
        np.add.at(copies, neurons, 1)
    assert (copies == 1).all(), "the workers' parts must cover the model, each neuron once"
    return counts, sums if summed else None, residual


def join_residual_counts(parts: Sequence[RecordedPart], *, layers: int) -> NDArray[np.int32] | None:
    """Return how often the residual stream was above 0, int32 [layers, H]; None if it was not requested.

    Args:
        parts: What all workers recorded of the same sentences, in any order.
        layers: The layers of the model.
    """
    joined: NDArray[np.int32] | None = None
    for part in parts:
        if part.residual_counts is not None:
            if joined is None:
                joined = np.zeros((layers, part.residual_counts.shape[1]), dtype=np.int32)
            joined[part.shard.distinct_layers] = part.residual_counts
    return joined


def join_reached(parts: Sequence[RecordedPart], widths: LayerWidths, *, tokens: int) -> NDArray[np.int32] | None:
    """Return how many tokens reached each neuron of the whole model.

    Args:
        parts: What all workers recorded of the same sentences, in any order.
        widths: The layers of the model.
        tokens: Recorded tokens of the sentences, all of which reach the neurons of a worker without experts.

    Returns:
        int32 of the shape `widths.shape`; None for a model without experts.
    """
    if all(part.reached is None for part in parts):
        return None
    reached = np.full(widths.shape, tokens, dtype=np.int32)
    for part in parts:
        if part.reached is not None:
            reached.flat[_numbers(part.shard, widths)] = part.reached.ravel()
    return reached


def _numbers(shard: Shard, widths: LayerWidths) -> NDArray[np.int64]:
    """Return the numbers of the shard's neurons, counted through all layers of the model."""
    offsets = widths.offsets
    by_layer = [
        offsets[layer] + np.arange(neurons.start, neurons.stop)
        for layer, neurons in zip(shard.layers, shard.neurons, strict=True)
    ]
    return np.concatenate(by_layer)
