"""The slot and the strength of each token of the current step, at fixed addresses."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from engine.kernels import host_copies


class TokenSlots:
    """The slots of a step's tokens, and how strongly each is steered.

    Attributes:
        buffer: Each token's slot, int32 [capacity]; 0 after the last token, so padding is not steered.
        strengths: Each token's strength, float32 [capacity]; valid where the slot is not 0.
    """

    def __init__(self, *, capacity: int, device: torch.device) -> None:
        self.buffer = torch.zeros(capacity, dtype=torch.int32, device=device)
        self.strengths = torch.ones(capacity, dtype=torch.float32, device=device)
        self._written = 0  # tokens past this one are 0
        self._scaled = 0  # tokens past this one have strength 1

    def write(self, slots: NDArray[np.int32], strengths: NDArray[np.float32] | None = None) -> None:
        """Set the slots and strengths of the next step's tokens, [T] each, on the current stream, without waiting.

        Args:
            slots: int32 [T].
            strengths: float32 [T]; None for 1 everywhere.
        """
        if not self._written and not slots.any():
            return
        self._copy(self.buffer, torch.from_numpy(slots), torch.zeros(max(len(slots), self._written), dtype=torch.int32))
        self._written = len(slots) if slots.any() else 0
        scaled = 0 if strengths is None else len(strengths)
        if scaled or self._scaled:
            values = torch.empty(0) if strengths is None else torch.from_numpy(strengths)
            self._copy(self.strengths, values, torch.ones(max(scaled, self._scaled)))
        self._scaled = scaled

    def _copy(self, buffer: torch.Tensor, values: torch.Tensor, padded: torch.Tensor) -> None:
        """Write `padded` with `values` at its start to the start of the buffer."""
        padded[: len(values)] = values
        host_copies.write(buffer[: len(padded)], padded)
