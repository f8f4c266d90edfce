"""Counts, activation sums and residual sums of the sentences being recorded, one row a sentence, on the device.

A row is opened when its request starts, and zeroed whenever the request starts over (a preempted request is computed
again). It is taken or dropped once, when the request has ended. Memory: rows x layers x (8 bytes a neuron and 4 bytes a
number of the residual stream, 8 if it is counted too), independent of the corpus. Narrow layers take the memory of the
widest.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from ampsweep.domain.layer_widths import LayerWidths
from engine.vllm.worker.recorded_part import RecordedPart
from engine.vllm.worker.table import Shard

RECORDING_BYTES = 256 * 1024**2
"""Device memory for the counts and activation sums of the sentences being recorded."""


def recording_rows(widths: LayerWidths) -> int:
    """Return how many sentences are recorded at once: as many as fit into RECORDING_BYTES, from 2 to 256."""
    return int(np.clip(RECORDING_BYTES // (8 * widths.layers * max(widths.by_layer)), 2, 256))


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
        shape = (len(shard.layers), rows, max(shard.widths.by_layer))
        self.counts = torch.zeros(shape, dtype=torch.int32, device=device)
        self.sums = torch.zeros(shape, dtype=torch.float32, device=device)
        self.residual = torch.zeros(*shape[:2], hidden_size, dtype=torch.float32, device=device)
        self.residual_counts: torch.Tensor | None = None
        self.reached: torch.Tensor | None = None
        if shard.experts:
            self.reached = torch.zeros(*shape[:2], max(shard.experts), dtype=torch.int32, device=device)
        self.rows = rows
        self._free = list(range(rows))
        self._open: dict[str, tuple[int, bool, bool]] = {}

    def open(self, key: str, *, sums: bool, residual_counts: bool = False) -> int:
        """Return the row of a sentence.

        Args:
            key: Name of the sentence.
            sums: Whether its activations are summed, besides being counted.
            residual_counts: Whether its residual stream is counted, besides being summed.
        """
        row = self._free.pop()
        self._open[key] = (row, sums, residual_counts)
        if residual_counts and self.residual_counts is None:
            self.residual_counts = torch.zeros_like(self.residual, dtype=torch.int32)
        return row

    def clear(self, row: int) -> None:
        """Forget what a row holds: its sentence starts (again)."""
        self.counts[:, row] = 0
        self.sums[:, row] = 0
        self.residual[:, row] = 0
        if self.residual_counts is not None:
            self.residual_counts[:, row] = 0
        if self.reached is not None:
            self.reached[:, row] = 0

    def of_experts(self, name: Literal["counts", "sums"], layer: int, row: int) -> torch.Tensor:
        """Return the counts or sums of a layer's experts in one row, a view [E, F]."""
        values: torch.Tensor = getattr(self, name)[layer, row, : len(self._shard.neurons[layer])]
        return values.view(self._shard.experts[layer], -1)

    def take(self, key: str) -> RecordedPart:
        """Return what was recorded of a sentence and free its row."""
        row, summed, residual_counted = self._open[key]
        self.drop(key)
        counts = self._of_neurons(self.counts, row)
        sums = self._of_neurons(self.sums, row) if summed else None
        layers = self._shard.first_rows
        residual = self.residual[layers, row].cpu().numpy().copy()
        residual_counts = None
        if residual_counted:
            assert self.residual_counts is not None
            residual_counts = self.residual_counts[layers, row].cpu().numpy().copy()
        return RecordedPart(
            shard=self._shard,
            counts=counts,
            sums=sums,
            residual=residual,
            residual_counts=residual_counts,
            reached=self._reached_neurons(row),
        )

    def drop(self, key: str) -> None:
        """Free the row of a sentence whose sums are not collected, if it has one."""
        row_and_sums = self._open.pop(key, None)
        if row_and_sums is not None:
            self._free.append(row_and_sums[0])

    def _reached_neurons(self, row: int) -> NDArray[np.int32] | None:
        """Return how many tokens reached each of the shard's neurons in one row, None for a model without experts."""
        if self.reached is None:
            return None
        reached = self.reached[:, row].cpu().numpy()
        layers = zip(reached, self._shard.experts, self._shard.neurons, strict=True)
        by_layer = [np.repeat(tokens[:experts], len(neurons) // experts) for tokens, experts, neurons in layers]
        tokens_of_neurons: NDArray[np.int32] = np.concatenate(by_layer).reshape(self._shard.widths.shape)
        return tokens_of_neurons

    def _of_neurons(self, values: torch.Tensor, row: int) -> NDArray[Any]:
        """Return one row of the shard's neurons, without the padding of narrow layers, as `RecordedPart` has it."""
        padded: NDArray[Any] = values[:, row].cpu().numpy()
        widths = self._shard.widths
        exists = np.arange(padded.shape[1]) < np.array(widths.by_layer)[:, None]
        return padded[exists].reshape(widths.shape)
