"""The kernel for every other dtype and device, in plain torch operations: gather, multiply-add, scatter.

Computes in float32 and rounds once. The entries of a batch are worked out on the host, once a step and layer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class BatchEntries:
    """Every (token, neuron) that a batch changes in one layer, int64 [n] each, with `mult` and `add`, float32 [n]."""

    tokens: torch.Tensor
    neurons: torch.Tensor
    mult: torch.Tensor
    add: torch.Tensor


def batch_entries(
    slots: NDArray[np.int32],
    starts: NDArray[np.int64],
    layer: int,
    indices: NDArray[np.int32],
    mult: NDArray[np.float32],
    add: NDArray[np.float32],
    device: torch.device,
) -> BatchEntries:
    """Spread the slots' rows over the tokens that point at them; arguments as `steer_numba.steer_gated` takes them."""
    first, last = starts[slots, layer], starts[slots, layer + 1]
    counts = last - first
    tokens = np.repeat(np.arange(len(slots)), counts)
    entries = np.arange(len(tokens)) - np.repeat(np.cumsum(counts) - counts - first, counts)
    return BatchEntries(
        tokens=torch.from_numpy(tokens).to(device),
        neurons=torch.from_numpy(indices[entries].astype(np.int64)).to(device),
        mult=torch.from_numpy(mult[entries]).to(device),
        add=torch.from_numpy(add[entries]).to(device),
    )


def steer_gated(up: torch.Tensor, out: torch.Tensor, entries: BatchEntries) -> None:
    """Apply the entries to `out` [T, F] in place; `up` [T, F] is the other factor of `out`."""
    at = (entries.tokens, entries.neurons)
    changed = entries.mult * out[at].float() + entries.add * up[at].float()
    out[at] = changed.to(out.dtype)
