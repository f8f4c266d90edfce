"""The interventions in use on one worker, a slot each. Slot 0 changes nothing.

A slot is filled once, counted while requests use it, and kept after the last of them: the same intervention later finds
it filled. It is given to another only when no never-used slot is left. A worker holds a range of the model's layers
(pipeline parallelism) and of each layer's neurons (tensor parallelism); the table keeps what falls into both.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.edits import Edits


@dataclass(frozen=True, kw_only=True)
class Shard:
    """The worker's part of the model: global layer indices, and the neurons [first, first + width) of each."""

    layers: tuple[int, ...]
    first: int
    width: int


@dataclass(frozen=True, kw_only=True, eq=False)
class TableRows:
    """All slots' entries. Slot s changes, in the shard's l-th layer, the entries starts[s, l]:starts[s, l + 1].

    `starts` int64 [S, L + 1]; `indices` int32 [n], relative to the shard; `mult`, `add` float32 [n].
    """

    starts: NDArray[np.int64]
    indices: NDArray[np.int32]
    mult: NDArray[np.float32]
    add: NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Row:
    ends: NDArray[np.int64]  # [L], running counts of entries over the shard's layers
    indices: NDArray[np.int32]
    mult: NDArray[np.float32]
    add: NDArray[np.float32]


class SteeringTable:
    """Slots 1 to `capacity`, by the key of what fills them."""

    def __init__(self, shard: Shard, *, capacity: int) -> None:
        self._shard = shard
        self._free = list(range(capacity, 0, -1))
        self._slots: dict[str, int] = {}
        self._users: dict[str, int] = {}
        self._idle: OrderedDict[str, None] = OrderedDict()  # filled and unused, the longest unused first
        self._filled: dict[int, _Row] = {}
        self._capacity = capacity
        self._rows: TableRows | None = None

    def acquire(self, key: str, edits: Callable[[], Edits]) -> int:
        """Return the slot of `key`, filled with `edits()` if it was not yet, and count one more user."""
        slot = self._slots.get(key)
        if slot is None:
            slot = self._free_slot()
            self._slots[key] = slot
            self._filled[slot] = _cut(edits(), self._shard)
            self._rows = None
        self._idle.pop(key, None)
        self._users[key] = self._users.get(key, 0) + 1
        return slot

    def release(self, key: str) -> None:
        """Count one user less; the slot stays filled until it is needed."""
        self._users[key] -= 1
        if self._users[key] == 0:
            del self._users[key]
            self._idle[key] = None

    @property
    def in_use(self) -> int:
        """How many slots have users."""
        return len(self._users)

    def rows(self) -> TableRows:
        """Return the entries of all slots as they stand; a later change makes new arrays and leaves these alone."""
        if self._rows is None:
            self._rows = self._assemble()
        return self._rows

    def _free_slot(self) -> int:
        if self._free:
            return self._free.pop()
        assert self._idle, "more interventions in flight than slots: the engine's gate let too many in"
        key, _ = self._idle.popitem(last=False)
        slot = self._slots.pop(key)
        del self._filled[slot]
        return slot

    def _assemble(self) -> TableRows:
        layers = len(self._shard.layers)
        starts = np.zeros((self._capacity + 1, layers + 1), dtype=np.int64)
        rows = sorted(self._filled.items())
        total = 0
        for slot, row in rows:
            starts[slot, 0] = total
            starts[slot, 1:] = total + row.ends
            total += len(row.indices)
        empty_f = np.empty(0, dtype=np.float32)
        return TableRows(
            starts=starts,
            indices=np.concatenate([np.empty(0, dtype=np.int32), *(row.indices for _, row in rows)]),
            mult=np.concatenate([empty_f, *(row.mult for _, row in rows)]),
            add=np.concatenate([empty_f, *(row.add for _, row in rows)]),
        )


def _cut(edits: Edits, shard: Shard) -> _Row:
    """Keep what falls into the shard, with neurons counted from its first."""
    inside = (edits.indices >= shard.first) & (edits.indices < shard.first + shard.width)
    layers = [np.arange(own.start, own.stop) for own in map(edits.entries, shard.layers)]
    kept = [entries[inside[entries]] for entries in layers]
    entries = np.concatenate(kept)
    return _Row(
        ends=np.cumsum([len(part) for part in kept], dtype=np.int64),
        indices=edits.indices[entries] - np.int32(shard.first),
        mult=edits.mult[entries],
        add=edits.add[entries],
    )
