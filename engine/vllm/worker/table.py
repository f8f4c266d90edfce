"""The part of an intervention that belongs to one worker, and the table of interventions that the CPU kernels read.

A worker holds a range of the model's layers (pipeline parallelism) and of each layer's neurons (tensor parallelism).
Its rows contain the entries in both ranges.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ampsweep.domain.neurons.layer_widths import LayerWidths, Width
from engine.kernels.device_table import SlotEntries
from engine.steering.edits import Edits


@dataclass(frozen=True, kw_only=True)
class Shard:
    """The worker's part of the model, in rows: one for each layer, two for a layer with an MLP beside its experts.

    Recordings and tables of interventions have a line for each row.

    Attributes:
        layers: The global layer index of each row.
        neurons: Which neurons of the layer each row has.
        experts: Number of experts of each row, 1 for one without experts; empty if no row has any.
    """

    layers: tuple[int, ...]
    neurons: tuple[range, ...]
    experts: tuple[int, ...] = ()

    @classmethod
    def of_rank(
        cls, layers: range, widths: LayerWidths, *, rank: int = 0, ranks: int = 1, experts: tuple[int, ...] = ()
    ) -> Shard:
        """Return the shard of a tensor-parallel rank, which has an equal share of the neurons of each layer.

        Each layer is one row.
        """
        shares = [widths.of(layer) // ranks for layer in layers]
        return cls(
            layers=tuple(layers),
            neurons=tuple(range(rank * share, (rank + 1) * share) for share in shares),
            experts=experts,
        )

    @property
    def first_rows(self) -> list[int]:
        """The first row of each layer, in order; it stands for the layer's residual stream."""
        return [row for row, layer in enumerate(self.layers) if row == 0 or layer != self.layers[row - 1]]

    @property
    def distinct_layers(self) -> list[int]:
        """The global index of each layer, once, in order."""
        return [self.layers[row] for row in self.first_rows]

    @property
    def widths(self) -> LayerWidths:
        """The neurons of each row."""
        return LayerWidths.of_layers([len(neurons) for neurons in self.neurons])

    def cut(self, edits: Edits) -> SlotEntries:
        """Return the entries in the shard, with neurons counted from the first of their row.

        Each expert is a section of its own, in which its neurons are counted from 0. Offsets are those of the sections.
        """
        layers = [np.arange(entries.start, entries.stop) for entries in map(edits.entries, self.layers)]
        by_layer = [
            entries[(edits.indices[entries] >= neurons.start) & (edits.indices[entries] < neurons.stop)]
            for entries, neurons in zip(layers, self.neurons, strict=True)
        ]
        entries = np.concatenate(by_layer)
        lengths = [len(selected) for selected in by_layer]
        indices = edits.indices[entries] - np.repeat([neurons.start for neurons in self.neurons], lengths)
        if self.experts:
            lengths, indices = self._in_sections(lengths, indices)
        return SlotEntries(
            offsets=np.cumsum([0, *lengths], dtype=np.int64),
            indices=indices.astype(np.int32),
            mult=edits.mult[entries],
            add=edits.add[entries],
            statistic=edits.statistic,
            coef=None if edits.coef is None else edits.coef[entries],
            takes=None
            if edits.coef is None
            else np.array([edits.coef[layer].any() for layer in layers], dtype=np.bool_),
            vectors=None if edits.vectors is None else edits.vectors[list(self.layers)],
        )

    def _in_sections(self, lengths: list[int], indices: NDArray[np.integer]) -> tuple[list[int], NDArray[np.integer]]:
        """Return the number of entries of each section, and their neurons, counted from the section's first."""
        widths = np.array([len(neurons) // count for neurons, count in zip(self.neurons, self.experts, strict=True)])
        sections = np.cumsum([0, *self.experts])
        layer = np.repeat(np.arange(len(lengths)), lengths)
        section = sections[layer] + indices // widths[layer]
        return np.bincount(section, minlength=sections[-1]).tolist(), indices % widths[layer]


@dataclass(frozen=True, kw_only=True, eq=False)
class TableRows:
    """All slots' entries. Slot s changes, in the shard's n-th section, the entries starts[s, n]:starts[s, n + 1].

    A section is a layer or, in a layer of experts, one expert. `starts` int64 [S, N + 1]; `indices` int32 [n], relative
    to the shard's part of the section; `mult`, `add`, `coef` float32 [n].

    Slot s needs a statistic of the l-th layer, on this worker or another that has a part of it, where `takes` bool
    [S, L] says so. `plan` int32 [S, L, 3] (kind and ranks) and `weights` float32 [S, L, 2] say which one, see
    `StatisticPlan`.

    Slot s adds `vectors` float32 [S, L, H] to the residual stream at the output of the l-th layer where `adds` bool
    [S, L] says so. `vectors` is None as long as no slot has had any.
    """

    starts: NDArray[np.int64]
    indices: NDArray[np.int32]
    mult: NDArray[np.float32]
    add: NDArray[np.float32]
    coef: NDArray[np.float32]
    takes: NDArray[np.bool_]
    plan: NDArray[np.int32]
    weights: NDArray[np.float32]
    adds: NDArray[np.bool_]
    vectors: NDArray[np.float32] | None


_BY_SLOT = ("starts", "takes", "plan", "weights", "adds")
"""The arrays of `TableRows` that have a line for each slot; they are copied where a snapshot shares them."""


class CpuTable:
    """The rows of slots 1 to `capacity` in host memory; the number of entries is not limited.

    Entries are appended, and compacted only when their buffers are full, so filling a slot costs time in proportion to
    its row.

    Args:
        layers: Layers of the shard.
        width: Neurons of a whole layer, over which statistics are taken; one number for each layer where they differ.
        capacity: Slots, besides slot 0.
        sections: Sections of the shard; None if each layer is one.
    """

    def __init__(self, *, layers: int, width: Width, capacity: int, sections: int | None = None) -> None:
        self._widths = LayerWidths(layers, width)
        self._rows = _empty_rows(entries=0, slots=capacity + 1, layers=layers, sections=sections or layers)
        self._end = 0  # entries from here on are unused
        self._filled: set[int] = set()
        self._shared = False  # whether a caller of `rows` may still hold `_rows`

    def write(self, slot: int, row: SlotEntries) -> None:
        """Set the entries of an empty slot."""
        self._prepare_write(len(row.indices))
        rows, entries = self._rows, slice(self._end, self._end + len(row.indices))
        rows.starts[slot] = self._end + row.offsets
        rows.indices[entries], rows.mult[entries], rows.add[entries] = row.indices, row.mult, row.add
        rows.coef[entries] = 0.0 if row.coef is None else row.coef
        if row.statistic is not None and row.takes is not None:
            rows.takes[slot] = row.takes
            rows.plan[slot], rows.weights[slot] = row.statistic.plans(self._widths.by_layer)
        if row.vectors is not None:
            self._write_vectors(slot, row.vectors)
        self._end = entries.stop
        self._filled.add(slot)

    def clear(self, slot: int) -> None:
        """Remove a slot's entries."""
        self._prepare_write(0)
        for name in _BY_SLOT:
            getattr(self._rows, name)[slot] = 0
        self._filled.remove(slot)

    def rows(self) -> TableRows:
        """Return a snapshot of all slots' entries; later changes do not affect it.

        The vectors are not copied: they change only in slots that no request uses, so in none that a step reads.
        """
        self._shared = True
        return self._rows

    def _write_vectors(self, slot: int, vectors: NDArray[np.float32]) -> None:
        if self._rows.vectors is None:  # the system provides the memory of a slot when it is first written to
            slots, layers = self._rows.adds.shape
            self._rows = replace(self._rows, vectors=np.zeros((slots, layers, vectors.shape[1]), dtype=np.float32))
        assert self._rows.vectors is not None
        self._rows.vectors[slot] = vectors
        self._rows.adds[slot] = vectors.any(axis=1)

    def _prepare_write(self, more: int) -> None:
        """Copy the per-slot arrays if a snapshot shares them, and make room for `more` entries after the last."""
        rows = self._rows
        if self._end + more > len(rows.indices):
            self._rows = self._compacted(more)
        elif self._shared:
            self._rows = replace(rows, **{name: getattr(rows, name).copy() for name in _BY_SLOT})
        self._shared = False

    def _compacted(self, more: int) -> TableRows:
        old, total = self._rows, 0
        lengths = {slot: int(old.starts[slot, -1] - old.starts[slot, 0]) for slot in sorted(self._filled)}
        slots, layers = old.takes.shape
        sections = old.starts.shape[1] - 1
        new = _empty_rows(entries=2 * (sum(lengths.values()) + more), slots=slots, layers=layers, sections=sections)
        for slot, length in lengths.items():
            target, source = slice(total, total + length), slice(old.starts[slot, 0], old.starts[slot, -1])
            for name in ("indices", "mult", "add", "coef"):
                getattr(new, name)[target] = getattr(old, name)[source]
            new.starts[slot] = old.starts[slot] - old.starts[slot, 0] + total
            total += length
        self._end = total
        by_slot = {name: getattr(old, name).copy() for name in _BY_SLOT if name != "starts"}
        return replace(new, **by_slot, vectors=old.vectors)


def _empty_rows(*, entries: int, slots: int, layers: int, sections: int) -> TableRows:
    return TableRows(
        starts=np.zeros((slots, sections + 1), dtype=np.int64),
        indices=np.empty(entries, dtype=np.int32),
        mult=np.empty(entries, dtype=np.float32),
        add=np.empty(entries, dtype=np.float32),
        coef=np.empty(entries, dtype=np.float32),
        takes=np.zeros((slots, layers), dtype=np.bool_),
        plan=np.zeros((slots, layers, 3), dtype=np.int32),
        weights=np.zeros((slots, layers, 2), dtype=np.float32),
        adds=np.zeros((slots, layers), dtype=np.bool_),
        vectors=None,
    )
