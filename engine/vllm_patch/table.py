"""What of an intervention one worker holds, and the interventions in use as the kernels of a CPU read them.

A worker holds a range of the model's layers (pipeline parallelism) and of each layer's neurons (tensor parallelism);
its rows are what falls into both.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.edits import Edits
from engine.kernels.device_table import DeviceRow


@dataclass(frozen=True, kw_only=True)
class Shard:
    """The worker's part of the model: global layer indices, and the neurons [first, first + width) of each."""

    layers: tuple[int, ...]
    first: int
    width: int

    def cut(self, edits: Edits) -> DeviceRow:
        """Keep what falls into the shard, with layers and neurons counted from its first."""
        inside = (edits.indices >= self.first) & (edits.indices < self.first + self.width)
        layers = [np.arange(own.start, own.stop) for own in map(edits.entries, self.layers)]
        kept = [entries[inside[entries]] for entries in layers]
        entries = np.concatenate(kept)
        return DeviceRow(
            offsets=np.cumsum([0, *(len(part) for part in kept)], dtype=np.int64),
            indices=edits.indices[entries] - np.int32(self.first),
            mult=edits.mult[entries],
            add=edits.add[entries],
            statistic=edits.statistic,
            coef=None if edits.coef is None else edits.coef[entries],
            takes=None if edits.coef is None else np.array([edits.coef[own].any() for own in layers], dtype=np.bool_),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class TableRows:
    """All slots' entries. Slot s changes, in the shard's l-th layer, the entries starts[s, l]:starts[s, l + 1].

    `starts` int64 [S, L + 1]; `indices` int32 [n], relative to the shard; `mult`, `add`, `coef` float32 [n].

    Slot s needs a statistic of the l-th layer, on this worker or another that has a part of it, where `takes` bool
    [S, L] says so. `plan` int32 [S, 3] (kind and ranks) and `weights` float32 [S, 2] say which, see `StatisticPlan`.
    """

    starts: NDArray[np.int64]
    indices: NDArray[np.int32]
    mult: NDArray[np.float32]
    add: NDArray[np.float32]
    coef: NDArray[np.float32]
    takes: NDArray[np.bool_]
    plan: NDArray[np.int32]
    weights: NDArray[np.float32]


class HostTable:
    """The rows of slots 1 to `capacity`, over `layers` layers, in the machine's memory; any number of entries fits.

    `width` are the neurons of a whole layer, of which statistics are taken.
    """

    def __init__(self, *, layers: int, width: int, capacity: int) -> None:
        self._layers, self._width, self._lines = layers, width, capacity + 1
        self._filled: dict[int, DeviceRow] = {}
        self._rows: TableRows | None = None

    def write(self, slot: int, row: DeviceRow) -> None:
        """Make `row` the entries of a slot."""
        self._filled[slot] = row
        self._rows = None

    def clear(self, slot: int) -> None:
        """Leave a slot without entries."""
        del self._filled[slot]
        self._rows = None

    def rows(self) -> TableRows:
        """Return the entries of all slots as they stand; a later change makes new arrays and leaves these alone."""
        if self._rows is None:
            self._rows = self._assemble()
        return self._rows

    def _assemble(self) -> TableRows:
        starts = np.zeros((self._lines, self._layers + 1), dtype=np.int64)
        takes = np.zeros((self._lines, self._layers), dtype=np.bool_)
        plan, weights = np.zeros((self._lines, 3), dtype=np.int32), np.zeros((self._lines, 2), dtype=np.float32)
        rows = sorted(self._filled.items())
        total = 0
        for slot, row in rows:
            starts[slot] = total + row.offsets
            total += len(row.indices)
            if row.statistic is not None and row.takes is not None:
                how = row.statistic.plan(self._width)
                takes[slot], plan[slot], weights[slot] = row.takes, (how.kind, *how.ranks), how.weights
        coefs = [np.zeros_like(row.mult) if row.coef is None else row.coef for _, row in rows]
        empty_f = np.empty(0, dtype=np.float32)
        return TableRows(
            starts=starts,
            indices=np.concatenate([np.empty(0, dtype=np.int32), *(row.indices for _, row in rows)]),
            mult=np.concatenate([empty_f, *(row.mult for _, row in rows)]),
            add=np.concatenate([empty_f, *(row.add for _, row in rows)]),
            coef=np.concatenate([empty_f, *coefs]),
            takes=takes,
            plan=plan,
            weights=weights,
        )
