"""What one worker recorded of a sentence, and the whole that the parts of all workers make."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.vllm.worker.table import Shard


@dataclass(frozen=True, kw_only=True, eq=False)
class RecordedPart:
    """Of the shard's neurons: counts int32 and, if wanted, activation sums float32, both [its layers, its width]."""

    shard: Shard
    counts: NDArray[np.int32]
    sums: NDArray[np.float32] | None


def join_parts(
    parts: Sequence[RecordedPart], *, layers: int, width: int
) -> tuple[NDArray[np.int32], NDArray[np.float32] | None]:
    """Return counts and sums of the whole model, [layers, width], in whatever order the parts come.

    Sums are None where they were not wanted.
    """
    if len(parts) == 1:
        (part,) = parts
        assert part.counts.shape == (layers, width), "one worker has a part of the model alone"
        return part.counts, part.sums
    counts = np.zeros((layers, width), dtype=np.int32)
    sums = np.zeros((layers, width), dtype=np.float32)
    held = np.zeros((layers, width), dtype=np.int64)
    summed = all(part.sums is not None for part in parts)
    for part in parts:
        place = np.ix_(part.shard.layers, range(part.shard.first, part.shard.first + part.shard.width))
        counts[place] = part.counts
        if part.sums is not None:
            sums[place] = part.sums
        held[place] += 1
    assert (held == 1).all(), "the workers' parts do not make the model, each neuron once"
    return counts, sums if summed else None
