"""Counts, activation sums and residual sums of the sentences being recorded, one row a sentence, on the device.

A row is opened when its request starts, and zeroed whenever the request starts over (a preempted request is computed
again). It is taken or dropped once, when the request has ended. Memory: rows x layers x (8 bytes a neuron and 4 bytes a
number of the residual stream), independent of the corpus. Narrow layers take the memory of the widest.
"""

from __future__ import annotations

from typing import Any

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
    """Counts and sums of up to `rows` sentences at once.

    Attributes:
        counts: How often each neuron was above 0, int32 [L, rows, F] with F of the widest layer, at a fixed address.
        sums: Sums of activations, float32 [L, rows, F], at a fixed address.
        residual: Sums of the residual stream at the layers' outputs, float32 [L, rows, H], at a fixed address.
        rows: Number of rows.
    """

    def __init__(self, shard: Shard, *, rows: int, hidden_size: int, device: torch.device) -> None:
        self._shard = shard
        shape = (len(shard.layers), rows, max(shard.widths.by_layer))
        self.counts = torch.zeros(shape, dtype=torch.int32, device=device)
        self.sums = torch.zeros(shape, dtype=torch.float32, device=device)
        self.residual = torch.zeros(*shape[:2], hidden_size, dtype=torch.float32, device=device)
        self.rows = rows
        self._free = list(range(rows))
        self._open: dict[str, tuple[int, bool]] = {}

    def open(self, key: str, *, sums: bool) -> int:
        """Return the row of a sentence; with `sums` its activations are summed besides being counted."""
        row = self._free.pop()
        self._open[key] = (row, sums)
        return row

    def clear(self, row: int) -> None:
        """Forget what a row holds: its sentence starts (again)."""
        self.counts[:, row] = 0
        self.sums[:, row] = 0
        self.residual[:, row] = 0

    def take(self, key: str) -> RecordedPart:
        """Return what was recorded of a sentence and free its row."""
        row, summed = self._open[key]
        self.drop(key)
        counts = self._of_neurons(self.counts, row)
        sums = self._of_neurons(self.sums, row) if summed else None
        residual = self.residual[:, row].cpu().numpy().copy()
        return RecordedPart(shard=self._shard, counts=counts, sums=sums, residual=residual)

    def drop(self, key: str) -> None:
        """Free the row of a sentence whose sums are not collected, if it has one."""
        held = self._open.pop(key, None)
        if held is not None:
            self._free.append(held[0])

    def _of_neurons(self, values: torch.Tensor, row: int) -> NDArray[Any]:
        """Return one row of the shard's neurons, without the padding of narrow layers, as `RecordedPart` has it."""
        padded: NDArray[Any] = values[:, row].cpu().numpy()
        widths = self._shard.widths
        held = np.arange(padded.shape[1]) < np.array(widths.by_layer)[:, None]
        return padded[held].reshape(widths.shape)
