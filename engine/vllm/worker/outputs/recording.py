"""Counts, activation sums and residual sums of the sentences being recorded, one row a sentence, on the device.

A row is opened when its request starts, and zeroed whenever the request starts over (a preempted request is computed
again). It is taken or dropped once, when the request has ended. By then a GPU may run the next step already, for which
the host does not wait. Sentences of a group that are taken together are added up on the device: the host reads and adds
as many numbers as for one sentence.

Memory: rows x layers x (8 bytes a neuron and 4 bytes a number of the residual stream, 8 if it is counted too),
independent of the corpus. Narrow layers take the memory of the widest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from ampsweep.domain.neurons.layer_widths import LayerWidths
from engine.kernels.host_copies import SideReads, to_device
from engine.vllm.worker.outputs.recorded_part import RecordedPart
from engine.vllm.worker.table import Shard

RECORDING_BYTES = 256 * 1024**2
"""Device memory for the counts and activation sums of the sentences being recorded."""


def recording_rows(widths: LayerWidths) -> int:
    """Return how many sentences an engine records at once: as many as fit into RECORDING_BYTES, from 2 to 256."""
    return int(np.clip(RECORDING_BYTES // (8 * widths.layers * max(widths.by_layer)), 2, 256))


class _OpenRow(NamedTuple):
    """The row of a sentence that is being recorded, and what is recorded besides the counts of its activations."""

    row: int
    sums: bool
    residual_counts: bool
    group: str | None


class _Selection(NamedTuple):
    """Rows of a tensor [L, rows, ...] to read: each inner sequence is added up, in `dtype`."""

    values: torch.Tensor
    groups: Sequence[Sequence[int]]
    dtype: torch.dtype


class Recording:
    """Counts and sums of up to `rows` sentences at once; L are the rows of the shard, see `Shard`.

    Attributes:
        counts: How often each neuron was above 0, int32 [L, rows, F] with F of the widest layer, at a fixed address.
        sums: Sums of activations, float32 [L, rows, F], at a fixed address.
        residual: Sums of the residual stream at the layers' outputs, float32 [L, rows, H], at a fixed address; in the
            first row of each layer.
        residual_counts: How often the residual stream was above 0 at the layers' outputs, int32 [L, rows, H], in the
            same rows; None until the first sentence asks for it.
        reached: Tokens that were routed to each expert, int32 [L, rows, E] with E of the layer that has most; a layer
            without experts counts all of its tokens as those of one. None for a model without experts.
        rows: Number of rows.
    """

    def __init__(self, shard: Shard, *, rows: int, hidden_size: int, device: torch.device) -> None:
        self._shard = shard
        widths = shard.widths
        self._exists: NDArray[np.bool_] | None = None  # which of the widest layer's neurons each layer has
        if not isinstance(widths.width, int):
            self._exists = np.arange(max(widths.by_layer)) < np.array(widths.by_layer)[:, None]
        shape = (len(shard.layers), rows, max(widths.by_layer))
        self.counts = torch.zeros(shape, dtype=torch.int32, device=device)
        self.sums = torch.zeros(shape, dtype=torch.float32, device=device)
        self.residual = torch.zeros(*shape[:2], hidden_size, dtype=torch.float32, device=device)
        self.residual_counts: torch.Tensor | None = None
        self.reached: torch.Tensor | None = None
        if shard.experts:
            self.reached = torch.zeros(*shape[:2], max(shard.experts), dtype=torch.int32, device=device)
        self.rows = rows
        self._free = list(range(rows))
        self._open: dict[str, _OpenRow] = {}
        self._reads = SideReads(device)
        self._launched: Sequence[int] = ()  # rows of the last step
        self._marks: dict[int, Any] = {}  # after the last step that recorded a row, once the next step has begun

    def open(self, key: str, *, sums: bool, residual_counts: bool = False, group: str | None = None) -> int:
        """Return the row of a sentence.

        Args:
            key: Name of the sentence.
            sums: Whether its activations are summed, besides being counted.
            residual_counts: Whether its residual stream is counted, besides being summed.
            group: Sentences of one group that are taken together are added up; None to take the sentence alone. A group
                has no `sums`, and all of it the same `residual_counts`.
        """
        assert self._free, "more sentences in flight than the recording has rows: the engine admitted too many"
        assert group is None or not sums, "activations of different sentences are not added up"
        row = self._free.pop()
        self._open[key] = _OpenRow(row, sums, residual_counts, group)
        self._marks.pop(row, None)
        if residual_counts and self.residual_counts is None:
            self.residual_counts = torch.zeros_like(self.residual, dtype=torch.int32)
        return row

    def clear(self, rows: Sequence[int]) -> None:
        """Forget what some rows hold: their sentences start (again)."""
        index = self._index(rows)
        for values in (self.counts, self.sums, self.residual, self.residual_counts, self.reached):
            if values is not None:
                values.index_fill_(1, index, 0)

    def begin_step(self, rows: Sequence[int]) -> None:
        """Begin a step that records the sentences in these rows; the step before has been launched."""
        if self._launched:
            self._marks.update(dict.fromkeys(self._launched, self._reads.mark()))
        for row in rows:
            self._marks.pop(row, None)
        self._launched = rows

    def of_experts(self, name: Literal["counts", "sums"], layer: int, row: int) -> torch.Tensor:
        """Return the counts or sums of a layer's experts in one row, a view [E, F]."""
        values: torch.Tensor = getattr(self, name)[layer, row, : len(self._shard.neurons[layer])]
        return values.view(self._shard.experts[layer], -1)

    def take(self, keys: Sequence[str]) -> list[RecordedPart | None]:
        """Return what was recorded of some sentences and free their rows.

        The first sentence of each group has what was recorded of the whole group, the others None. All are read back
        together, each part in one piece, and are not copied again on the host.
        """
        opened = {key: self._open[key] for key in keys}
        for key in keys:
            self.drop(key)
        groups: dict[object, list[str]] = {}
        for key, each in opened.items():
            groups.setdefault((key,) if each.group is None else each.group, []).append(key)
        rows = {first: [opened[key].row for key in (first, *others)] for first, *others in groups.values()}
        summed = [of_group for first, of_group in rows.items() if opened[first].sums]
        counted = [of_group for first, of_group in rows.items() if opened[first].residual_counts]
        wanted = [
            _Selection(self.counts, [*rows.values()], torch.int32),
            _Selection(self.sums, summed, torch.float32),
            _Selection(self.residual, [*rows.values()], torch.float64),
        ]
        if self.reached is not None:
            wanted.append(_Selection(self.reached, [*rows.values()], torch.int32))
        if counted:
            assert self.residual_counts is not None
            wanted.append(_Selection(self.residual_counts, counted, torch.int32))
        read = self._read(wanted, after=[each.row for each in opened.values()])
        layers = self._shard.first_rows
        counts, sums, residual = (iter(next(read)) for _ in range(3))
        reached = None if self.reached is None else iter(next(read))
        residual_counts = iter(next(read) if counted else ())
        parts = {
            first: RecordedPart(
                keys=(first, *others),
                shard=self._shard,
                counts=self._of_neurons(next(counts)),
                sums=self._of_neurons(next(sums)) if opened[first].sums else None,
                residual=next(residual).take(layers, axis=0),
                residual_counts=next(residual_counts).take(layers, axis=0) if opened[first].residual_counts else None,
                reached=None if reached is None else self._by_neuron(next(reached)),
            )
            for first, *others in groups.values()
        }
        return [parts.get(key) for key in keys]

    def drop(self, key: str) -> None:
        """Free the row of a sentence whose sums are not collected, if it has one."""
        opened = self._open.pop(key, None)
        if opened is not None:
            self._free.append(opened.row)

    def _by_neuron(self, reached: NDArray[np.int32]) -> NDArray[np.int32]:
        """Return how many tokens reached each of the shard's neurons, from those that reached each expert, [L, E]."""
        layers = zip(reached, self._shard.experts, self._shard.neurons, strict=True)
        by_layer = [np.repeat(tokens[:experts], len(neurons) // experts) for tokens, experts, neurons in layers]
        tokens_of_neurons: NDArray[np.int32] = np.concatenate(by_layer).reshape(self._shard.widths.shape)
        return tokens_of_neurons

    def _of_neurons(self, padded: NDArray[Any]) -> NDArray[Any]:
        """Return the neurons [L, F] of a part, without the padding of narrow layers, as `RecordedPart` has them."""
        return padded if self._exists is None else padded[self._exists]

    def _read(self, wanted: Sequence[_Selection], *, after: Sequence[int]) -> Iterator[list[NDArray[Any]]]:
        """Yield the groups of each selection in host memory, [L, ...] each, after the last step that recorded any."""
        marks = {self._marks[row] for row in after if row in self._marks}
        if any(row not in self._marks for row in after):  # no step has begun since
            marks.add(self._reads.mark())

        def selected() -> Iterator[torch.Tensor]:
            for values, groups, dtype in wanted:
                alone = [group[0] for group in groups if len(group) == 1]  # there may be hundreds: read at once
                yield values.index_select(1, self._index(alone)).transpose(0, 1).to(dtype).contiguous()
                for group in groups:
                    if len(group) > 1:
                        yield values.index_select(1, self._index(group)).sum(1, dtype=dtype)

        read = (copy.numpy() for copy in self._reads.read(selected, after=marks))
        for selection in wanted:
            alone = iter(next(read))
            yield [next(alone) if len(group) == 1 else next(read) for group in selection.groups]

    def _index(self, rows: Sequence[int]) -> torch.Tensor:
        return to_device(torch.tensor(rows, dtype=torch.int64), self.counts.device)
