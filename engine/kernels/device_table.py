"""The slots' entries on one device, at addresses that never change, so that a CUDA graph may hold them.

A slot's row is one extent of a pool of entries, sorted by layer and neuron, and one line of `offsets` that says where
each layer's blocks of neurons begin in it. Slot 0 has no entries, for ever.

A running step sees the old row or the new one, never a part of each. All writes go, without waiting, to the stream
that is current, which must be the one that the steps run on: a step launched before a write has read everything before
the write changes anything, and a step launched after it sees it whole. Besides, a row's entries go into space that no
row uses, its line of offsets follows, and only then is the old extent free for others.

It knows nothing of requests, nor which intervention a slot stands for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ampsweep.domain.statistic import NONE, Statistic
from ampsweep.errors import Unavailable


@dataclass(frozen=True, kw_only=True, eq=False)
class SlotEntries:
    """What a slot changes: a' = mult * a + add + coef * (the statistic of the token's activations).

    Layer l has the entries offsets[l]:offsets[l + 1] of `indices` (int32, ascending inside a layer, no duplicates) and
    of `mult`, `add` and, where there is a statistic, `coef` (float32). `offsets` is int64 [L + 1], from 0.

    Where a layer's neurons are shared by several devices, `takes` bool [L] says which layers have entries with a
    statistic on any of them: those of which all must give their part.
    """

    offsets: NDArray[np.int64]
    indices: NDArray[np.int32]
    mult: NDArray[np.float32]
    add: NDArray[np.float32]
    statistic: Statistic | None = None
    coef: NDArray[np.float32] | None = None
    takes: NDArray[np.bool_] | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class StatisticBuffers:
    """The slots' statistics, see `StatisticPlan`.

    `coef` float32 [C]; `plan` int32 [S + 1, 3], kind and ranks; `weights` float32 [S + 1, 2].
    """

    coef: torch.Tensor
    plan: torch.Tensor
    weights: torch.Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class TableBuffers:
    """What the kernels read, for L layers of `width` neurons in B = ceil(width / block) blocks.

    Slot s changes, in block b of layer l, the entries offsets[s, l * B + b] up to offsets[s, l * B + b + 1] of
    `neurons` int32 [C] (counted from the layer's first), `mult` and `add` float32 [C]. `offsets` is int32
    [S + 1, L * B + 1].
    """

    layers: int
    width: int
    block: int
    offsets: torch.Tensor
    neurons: torch.Tensor
    mult: torch.Tensor
    add: torch.Tensor
    statistics: StatisticBuffers | None

    @property
    def blocks(self) -> int:
        """Blocks of neurons a layer, B."""
        return -(-self.width // self.block)


class DeviceTable:
    """Slots 1 to `slots`, over a pool of `capacity` entries, all slots and layers together.

    `block`, a power of two, is the number of neurons that one program of the kernel handles. Without `statistics` no
    row may have one, and no memory is kept for them.
    """

    def __init__(
        self,
        *,
        slots: int,
        layers: int,
        width: int,
        capacity: int,
        device: torch.device,
        block: int = 1024,
        statistics: bool = False,
    ) -> None:
        assert block & (block - 1) == 0
        assert capacity < 2**31
        blocks = -(-width // block)

        def zeros(*shape: int, dtype: torch.dtype) -> torch.Tensor:
            return torch.zeros(shape, dtype=dtype, device=device)

        self.buffers = TableBuffers(
            layers=layers,
            width=width,
            block=block,
            offsets=zeros(slots + 1, layers * blocks + 1, dtype=torch.int32),
            neurons=zeros(capacity, dtype=torch.int32),
            mult=zeros(capacity, dtype=torch.float32),
            add=zeros(capacity, dtype=torch.float32),
            statistics=StatisticBuffers(
                coef=zeros(capacity, dtype=torch.float32),
                plan=zeros(slots + 1, 3, dtype=torch.int32),
                weights=zeros(slots + 1, 2, dtype=torch.float32),
            )
            if statistics
            else None,
        )
        self._capacity = capacity
        self._extents: dict[int, tuple[int, int]] = {}  # slot: first entry, number of entries; never of length 0

    @property
    def free(self) -> int:
        """How many entries the pool has left; `write` needs as many as its row has, before the old row's are free."""
        return self._capacity - sum(size for _, size in self._extents.values())

    def write(self, slot: int, row: SlotEntries) -> None:
        """Make `row` the entries of a slot, from the next step on.

        Raises Unavailable, the slot being as it was, if the pool has fewer entries left than the row needs.
        """
        size = len(row.indices)
        block_starts = self._block_starts(slot, row)
        start = self._reserve(size)
        entries = slice(start, start + size)
        buffers = self.buffers
        _send(buffers.neurons[entries], row.indices)
        _send(buffers.mult[entries], row.mult)
        # Adding -0.0 leaves every bit of any number as it is; +0.0 would turn -0.0 into +0.0.
        _send(buffers.add[entries], np.where(row.add == 0.0, np.float32(-0.0), row.add))
        if buffers.statistics is not None:
            coef = np.zeros(size, dtype=np.float32) if row.coef is None else row.coef
            _send(buffers.statistics.coef[entries], coef)
            self._send_plan(slot, row.statistic, buffers.statistics)
        _send(buffers.offsets[slot], start + block_starts)
        self._extents.pop(slot, None)
        if size:
            self._extents[slot] = (start, size)

    def clear(self, slot: int) -> None:
        """Leave a slot without entries, from the next step on, and free what it had."""
        self.buffers.offsets[slot].zero_()
        self._extents.pop(slot, None)

    def _block_starts(self, slot: int, row: SlotEntries) -> NDArray[np.int64]:
        """Return where each block begins among the row's entries, int64 [L * B + 1], having looked the row over.

        A neuron that is out of range or out of order would be written outside its token: hence the assertions.
        """
        buffers = self.buffers
        assert 0 < slot < len(buffers.offsets)
        assert len(row.offsets) == buffers.layers + 1
        assert row.offsets[0] == 0
        assert row.offsets[-1] == len(row.indices) == len(row.mult) == len(row.add)
        assert (row.statistic is None) == (row.coef is None)
        assert row.statistic is None or buffers.statistics is not None
        assert not len(row.indices) or (row.indices.min() >= 0 and row.indices.max() < buffers.width)
        padded = buffers.blocks * buffers.block
        flat = np.repeat(np.arange(buffers.layers) * padded, np.diff(row.offsets)) + row.indices
        assert (np.diff(flat) > 0).all()
        starts: NDArray[np.int64] = np.searchsorted(
            flat, np.arange(buffers.layers * buffers.blocks + 1) * buffers.block
        )
        return starts

    def _send_plan(self, slot: int, statistic: Statistic | None, buffers: StatisticBuffers) -> None:
        if statistic is None:
            buffers.plan[slot].fill_(NONE)
            return
        plan = statistic.plan(self.buffers.width)
        _send(buffers.weights[slot], np.array(plan.weights, dtype=np.float32))
        _send(buffers.plan[slot], np.array([plan.kind, *plan.ranks], dtype=np.int32))

    def _reserve(self, size: int) -> int:
        """Return where `size` entries that no row uses begin; move rows together if no gap is as long."""
        if size > self.free:
            raise Unavailable(
                f"the steering table is full: {size} entries needed, {self.free} of {self._capacity} left; "
                "clear slots that nobody uses, or open the engine with a larger table"
            )
        end = 0
        for start, length in sorted(self._extents.values()):
            if start - end >= size:
                return end
            end = start + length
        if self._capacity - end >= size:
            return end
        return self._compact()

    def _compact(self) -> int:
        """Move every row down to the end of the one before it; return where the free rest of the pool begins."""
        buffers = self.buffers
        pools = [buffers.neurons, buffers.mult, buffers.add]
        if buffers.statistics is not None:
            pools.append(buffers.statistics.coef)
        end = 0
        for slot, (start, size) in sorted(self._extents.items(), key=lambda extent: extent[1]):
            if start != end:
                for pool in pools:
                    pool[end : end + size] = pool[start : start + size].clone()
                buffers.offsets[slot] -= start - end
                self._extents[slot] = (end, size)
            end += size
        return end


def _send(target: torch.Tensor, values: NDArray[Any]) -> None:
    """Copy host values to the device without waiting; PyTorch keeps the pinned copy until the stream has read it."""
    source = torch.tensor(values, dtype=target.dtype)
    if target.is_cuda:
        source = source.pin_memory()
    target.copy_(source, non_blocking=True)
