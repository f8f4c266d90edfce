"""The slot of each token of the current step, at a fixed address."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray


class TokenSlots:
    """The slots of a step's tokens.

    Attributes:
        buffer: Each token's slot, int32 [capacity]; 0 after the last token, so padding is not steered.
    """

    def __init__(self, *, capacity: int, device: torch.device) -> None:
        self.buffer = torch.zeros(capacity, dtype=torch.int32, device=device)
        self._written = 0  # tokens past this one are 0

    def write(self, slots: NDArray[np.int32]) -> None:
        """Set the slots of the next step's tokens, int32 [T], on the current stream, without waiting."""
        if not self._written and not slots.any():
            return
        padded = torch.zeros(max(len(slots), self._written), dtype=torch.int32)
        padded[: len(slots)] = torch.from_numpy(slots)
        if self.buffer.is_cuda:
            padded = padded.pin_memory()
        self.buffer[: len(padded)].copy_(padded, non_blocking=True)
        self._written = len(slots) if slots.any() else 0
