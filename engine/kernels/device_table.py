"""The table of the slots' entries on one device, at fixed addresses, so that a CUDA graph can use it.

A slot's row is one extent of a pool of entries, sorted by section and neuron, and one line of `offsets`, which says
where each section's blocks of neurons begin in the extent. A section is a layer or, in a layer of experts, one expert.
Slot 0 never has entries.

A running step sees either the old row or the new one. All writes are queued, without waiting, on the current stream,
which must be the stream that the steps run on. A step launched before a write reads everything before the write changes
anything, and a step launched after it sees the whole write. In addition, a row's entries are written to space that no
row uses, then its line of offsets, and only then is the old extent released.

This module knows nothing of requests, or of which intervention a slot holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ampsweep.domain.neurons.layer_widths import LayerWidths, Width
from ampsweep.domain.statistic import NONE, Statistic
from ampsweep.errors import Unavailable
from engine.kernels import host_copies


@dataclass(frozen=True, kw_only=True, eq=False)
class SlotEntries:
    """The entries of one slot: a' = mult * a + add + coef * (the statistic of the token's activations).

    Layer l has the entries offsets[l]:offsets[l + 1]. In a mixture of experts each expert is a layer of its own in
    `offsets` and `indices`.

    Attributes:
        offsets: Where each layer's entries begin, int64 [L + 1], starting at 0.
        indices: Neurons, int32, ascending within a layer, without duplicates.
        mult: Factor of each entry, float32.
        add: Summand of each entry, float32.
        statistic: The statistic that `coef` multiplies, if there is one.
        coef: Coefficient of the statistic in each entry, float32.
        takes: With a statistic, whether each layer has entries on any of the devices that share its neurons, bool [L].
            All of them must provide their part of the statistic in these layers.
        vectors: What is added to the residual stream at the output of each layer, float32 [L, H]; None for nothing.
    """

    offsets: NDArray[np.int64]
    indices: NDArray[np.int32]
    mult: NDArray[np.float32]
    add: NDArray[np.float32]
    statistic: Statistic | None = None
    coef: NDArray[np.float32] | None = None
    takes: NDArray[np.bool_] | None = None
    vectors: NDArray[np.float32] | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class StatisticBuffers:
    """The slots' statistics, see `StatisticPlan`.

    Attributes:
        coef: float32 [C].
        plan: Kind and ranks, int32 [S + 1, L, 3].
        weights: float32 [S + 1, L, 2].
    """

    coef: torch.Tensor
    plan: torch.Tensor
    weights: torch.Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class VectorBuffers:
    """What the slots add to the residual stream at the output of each layer.

    Attributes:
        adds: Whether a slot adds anything at a layer, 0 or 1, int32 [S + 1, L].
        values: float32 [S + 1, L, H]; meaningless where `adds` is 0.
    """

    adds: torch.Tensor
    values: torch.Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class TableBuffers:
    """The buffers that the kernels read, for N sections of at most `width` neurons in B = ceil(width / block) blocks.

    Slot s changes, in block b of section n, the entries offsets[s, n * B + b] up to offsets[s, n * B + b + 1] of
    `neurons` int32 [C] (counted from the section's first), `mult` and `add` float32 [C]. `offsets` is int32
    [S + 1, N * B + 1].
    """

    sections: int
    width: int
    block: int
    offsets: torch.Tensor
    neurons: torch.Tensor
    mult: torch.Tensor
    add: torch.Tensor
    statistics: StatisticBuffers | None

    @property
    def blocks(self) -> int:
        """Blocks of neurons in a section, B."""
        return -(-self.width // self.block)


class DeviceTable:
    """Slots 1 to `slots`, over one pool of entries, and with a vector a layer each.

    Args:
        slots: Slots, besides slot 0.
        layers: Layers on this device.
        width: Neurons of a layer on this device that a token reaches, over which statistics are taken; one number for
            each layer where they differ.
        capacity: Entries of the pool, over all slots and layers.
        device: Where the buffers are.
        block: Neurons that one program of the kernel handles, a power of two.
        statistics: Whether rows may have a statistic; without it no memory is allocated for them.
        hidden_size: Size of the residual stream; with 0 rows may have no vectors, and no memory is allocated for them.
        sections: Neurons of each section, which has the blocks of the widest; None if each layer is a section.
    """

    def __init__(
        self,
        *,
        slots: int,
        layers: int,
        width: Width,
        capacity: int,
        device: torch.device,
        block: int = 1024,
        statistics: bool = False,
        hidden_size: int = 0,
        sections: Sequence[int] | None = None,
    ) -> None:
        assert block & (block - 1) == 0
        assert capacity < 2**31
        self._widths = LayerWidths(layers, width)
        self._sections = self._widths.by_layer if sections is None else tuple(sections)
        widest = max(self._sections)
        blocks = -(-widest // block)

        def zeros(*shape: int, dtype: torch.dtype) -> torch.Tensor:
            return torch.zeros(shape, dtype=dtype, device=device)

        self.buffers = TableBuffers(
            sections=len(self._sections),
            width=widest,
            block=block,
            offsets=zeros(slots + 1, len(self._sections) * blocks + 1, dtype=torch.int32),
            neurons=zeros(capacity, dtype=torch.int32),
            mult=zeros(capacity, dtype=torch.float32),
            add=zeros(capacity, dtype=torch.float32),
            statistics=StatisticBuffers(
                coef=zeros(capacity, dtype=torch.float32),
                plan=zeros(slots + 1, layers, 3, dtype=torch.int32),
                weights=zeros(slots + 1, layers, 2, dtype=torch.float32),
            )
            if statistics
            else None,
        )
        self.vectors = VectorBuffers(
            adds=zeros(slots + 1, layers, dtype=torch.int32),
            values=zeros(slots + 1, layers, hidden_size, dtype=torch.float32),
        )
        self._capacity = capacity
        self._extents: dict[int, tuple[int, int]] = {}  # slot: first entry, number of entries; never of length 0

    @property
    def free(self) -> int:
        """Free entries of the pool. `write` needs as many as its row has before the old row is released."""
        return self._capacity - sum(size for _, size in self._extents.values())

    def write(self, slot: int, row: SlotEntries) -> None:
        """Set the entries of a slot, from the next step on.

        Raises:
            Unavailable: The pool has fewer free entries than the row needs; the slot is unchanged.
        """
        size = len(row.indices)
        block_starts = self._block_starts(slot, row)
        start = self._reserve(size)
        entries = slice(start, start + size)
        buffers = self.buffers
        _send(buffers.neurons[entries], row.indices)
        _send(buffers.mult[entries], row.mult)
        # Adding -0.0 leaves every bit of any number unchanged; +0.0 would turn -0.0 into +0.0.
        _send(buffers.add[entries], np.where(row.add == 0.0, np.float32(-0.0), row.add))
        if buffers.statistics is not None:
            coef = np.zeros(size, dtype=np.float32) if row.coef is None else row.coef
            _send(buffers.statistics.coef[entries], coef)
            self._send_plan(slot, row.statistic, buffers.statistics)
        if row.vectors is not None:
            assert row.vectors.shape == self.vectors.values.shape[1:]
            _send(self.vectors.values[slot], row.vectors)
        self._send_adds(slot, row.vectors)
        _send(buffers.offsets[slot], start + block_starts)
        self._extents.pop(slot, None)
        if size:
            self._extents[slot] = (start, size)

    def clear(self, slot: int) -> None:
        """Remove a slot's entries, from the next step on, and release them."""
        self.buffers.offsets[slot].zero_()
        self._send_adds(slot, None)
        self._extents.pop(slot, None)

    def _block_starts(self, slot: int, row: SlotEntries) -> NDArray[np.int64]:
        """Check the row and return where each block begins among its entries, int64 [N * B + 1].

        A neuron that is out of range or out of order would make the kernel write outside its token, hence the
        assertions.
        """
        buffers = self.buffers
        assert 0 < slot < len(buffers.offsets)
        assert len(row.offsets) == buffers.sections + 1
        assert row.offsets[0] == 0
        assert row.offsets[-1] == len(row.indices) == len(row.mult) == len(row.add)
        assert (row.statistic is None) == (row.coef is None)
        assert row.statistic is None or buffers.statistics is not None
        widths = np.repeat(self._sections, np.diff(row.offsets))
        assert ((row.indices >= 0) & (row.indices < widths)).all()
        padded = buffers.blocks * buffers.block
        flat = np.repeat(np.arange(buffers.sections) * padded, np.diff(row.offsets)) + row.indices
        assert (np.diff(flat) > 0).all()
        starts: NDArray[np.int64] = np.searchsorted(
            flat, np.arange(buffers.sections * buffers.blocks + 1) * buffers.block
        )
        return starts

    def _send_adds(self, slot: int, vectors: NDArray[np.float32] | None) -> None:
        adds = np.zeros(self._widths.layers, dtype=np.int32)
        if vectors is not None:
            adds[:] = vectors.any(axis=1)
        _send(self.vectors.adds[slot], adds)

    def _send_plan(self, slot: int, statistic: Statistic | None, buffers: StatisticBuffers) -> None:
        if statistic is None:
            buffers.plan[slot].fill_(NONE)
            return
        plans, weights = statistic.plans(self._widths.by_layer)
        _send(buffers.weights[slot], np.array(weights, dtype=np.float32))
        _send(buffers.plan[slot], np.array(plans, dtype=np.int32))

    def _reserve(self, size: int) -> int:
        """Return the start of `size` entries that no row uses; compact the pool if no gap is large enough."""
        if size > self.free:
            raise Unavailable(
                f"the steering table is full: {size} entries needed, {self.free} of {self._capacity} left; "
                "clear unused slots, or open the engine with a larger table"
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
        """Move every row to the end of the one before it and return where the free rest of the pool begins."""
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
    """Copy values to the device without waiting. What they are copied from is not the caller's array."""
    host_copies.write(target, torch.tensor(values, dtype=target.dtype))
