"""Which slot each token of the step under way points at, at an address that never changes."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray


class TokenSlots:
    """`buffer` int32 [capacity]: the slots of the step's tokens, and 0 after them, so that padding is untouched."""

    def __init__(self, *, capacity: int, device: torch.device) -> None:
        self.buffer = torch.zeros(capacity, dtype=torch.int32, device=device)
        self._written = 0  # tokens past this one are 0

    def write(self, slots: NDArray[np.int32]) -> None:
        """Take the slots of the next step's tokens, int32 [T], in the order of the current stream, without waiting."""
        if not self._written and not slots.any():
            return
        padded = torch.zeros(max(len(slots), self._written), dtype=torch.int32)
        padded[: len(slots)] = torch.from_numpy(slots)
        if self.buffer.is_cuda:
            padded = padded.pin_memory()
        self.buffer[: len(padded)].copy_(padded, non_blocking=True)
        self._written = len(slots) if slots.any() else 0
