"""Activations that are captured at every token of a prompt, on the worker that has the neurons.

A request's values are in host memory, one array for each row of the shard, from its start until they are taken or
dropped once, after its end. A token's values are written at its position, so a request that is computed again after a
preemption overwrites them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from ampsweep.errors import EngineFailed
from engine.capture.selection import NeuronSelection
from engine.vllm.requests.request_extras import CaptureArgs
from engine.vllm.worker.table import Shard


@dataclass(frozen=True, kw_only=True, eq=False)
class CapturedRow:
    """The captured neurons of one row of the shard, for T tokens.

    Attributes:
        layer: Global index of the layer.
        places: Where they are among the captured neurons of the layer, int64 [n].
        columns: Their indices in the row, int64 [n].
        values: Their activations, float32 [T, n]; unset where `computed` is false.
        computed: Which tokens have been computed, bool [T].
    """

    layer: int
    places: NDArray[np.int64]
    columns: torch.Tensor
    values: NDArray[np.float32]
    computed: NDArray[np.bool_]

    def put(self, position: int, values: torch.Tensor) -> None:
        """Set the activations [t, n] of the tokens from `position` on."""
        tokens = slice(position, position + len(values))
        self.values[tokens] = values.float().cpu().numpy()
        self.computed[tokens] = True


class CapturedSpan(NamedTuple):
    """The tokens [first, end) of a step that belong to a captured request, from its position `position` on.

    `rows` are its neurons, by the row of the shard.
    """

    rows: Mapping[int, CapturedRow]
    first: int
    end: int
    position: int


class Capturing:
    """The captured requests of one worker, which holds `shard` of the model."""

    def __init__(self, shard: Shard) -> None:
        self._shard = shard
        self._rows: dict[str, dict[int, CapturedRow]] = {}

    def open(self, args: CaptureArgs, *, tokens: int) -> Mapping[int, CapturedRow]:
        """Prepare to capture a request of `tokens` tokens, and return its rows; earlier ones of the key are dropped."""
        wanted = dict(zip(args.layers, args.indices, strict=True))
        rows = {}
        for number, (layer, neurons) in enumerate(zip(self._shard.layers, self._shard.neurons, strict=True)):
            if layer not in wanted:
                continue
            listed = wanted[layer]
            indices = np.arange(neurons.stop) if listed is None else np.array(listed, dtype=np.int64)
            places = np.flatnonzero((indices >= neurons.start) & (indices < neurons.stop))
            if len(places):
                rows[number] = CapturedRow(
                    layer=layer,
                    places=places,
                    columns=torch.from_numpy(indices[places] - neurons.start),
                    values=np.empty((tokens, len(places)), dtype=np.float32),
                    computed=np.zeros(tokens, dtype=np.bool_),
                )
        self._rows[args.key] = rows
        return rows

    def take(self, keys: Sequence[str]) -> list[list[CapturedRow]]:
        """Return what was captured of each request, and forget it."""
        return [list(self._rows.pop(key).values()) for key in keys]

    def drop(self, key: str) -> None:
        """Forget a request whose activations are not collected."""
        self._rows.pop(key, None)


def join_captured(
    parts: Sequence[Sequence[CapturedRow]], neurons: NeuronSelection, *, tokens: int
) -> tuple[NDArray[np.float32], ...]:
    """Return the activations of each layer, float32 [tokens, its neurons].

    Args:
        parts: What all workers captured of a request, in any order.
        neurons: The neurons of the request.
        tokens: Its tokens.

    Raises:
        EngineFailed: An activation was not computed.
    """
    joined = {
        layer: np.empty((tokens, count), dtype=np.float32)
        for layer, count in zip(neurons.layers, neurons.counts, strict=True)
    }
    missing = tokens * neurons.total
    for row in (row for part in parts for row in part):
        joined[row.layer][:, row.places] = row.values
        missing -= int(row.computed.sum()) * len(row.places)
    if missing:
        raise EngineFailed(f"{missing} of {tokens * neurons.total} activations were not computed by any worker")
    return tuple(joined.values())
