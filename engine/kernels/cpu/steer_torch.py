"""The steering kernels for every other dtype and device, in torch operations: gather, multiply-add, scatter.

They compute in float32 and round once. The entries of a batch are expanded on the host, once for each step and layer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class BatchEntries:
    """Every (token, neuron) that a batch changes in one layer, int64 [n] each, with `mult` and `shift`, float32 [n].

    Both take the token's strength into account.
    """

    tokens: torch.Tensor
    neurons: torch.Tensor
    mult: torch.Tensor
    shift: torch.Tensor


def batch_entries(
    slots: NDArray[np.int32],
    starts: NDArray[np.int64],
    layer: int,
    indices: NDArray[np.int32],
    mult: NDArray[np.float32],
    add: NDArray[np.float32],
    coef: NDArray[np.float32],
    statistic: torch.Tensor,
    strengths: NDArray[np.float32],
) -> BatchEntries:
    """Expand the slots' rows to the tokens that use them.

    Arguments as in `steer_numba.steer_gated`; the entries are created on the device of `statistic`.
    """
    first, last = starts[slots, layer], starts[slots, layer + 1]
    counts = last - first
    tokens = np.repeat(np.arange(len(slots)), counts)
    entries = np.arange(len(tokens)) - np.repeat(np.cumsum(counts) - counts - first, counts)
    on = torch.from_numpy(tokens).to(statistic.device)
    strength = strengths[tokens]
    factor = (np.float32(1.0) - strength) + strength * mult[entries]
    share = torch.from_numpy(coef[entries]).to(statistic.device)
    taken = torch.where(share != 0, share * statistic[on], 0.0)
    return BatchEntries(
        tokens=on,
        neurons=torch.from_numpy(indices[entries].astype(np.int64)).to(statistic.device),
        mult=torch.from_numpy(factor).to(statistic.device),
        shift=torch.from_numpy(strength).to(statistic.device)
        * (torch.from_numpy(add[entries]).to(statistic.device) + taken),
    )


def steer_gated(up: torch.Tensor, out: torch.Tensor, entries: BatchEntries) -> None:
    """Apply the entries to `out` [T, F] = activation * up, in place; `up` is [T, F]."""
    _change(out, entries, entries.shift * up[entries.tokens, entries.neurons].float())


def steer_plain(out: torch.Tensor, entries: BatchEntries) -> None:
    """Apply the entries to `out` [T, F], the activation of an MLP without a gate, in place."""
    _change(out, entries, entries.shift)


def _change(out: torch.Tensor, entries: BatchEntries, shifted: torch.Tensor) -> None:
    changed = (entries.tokens, entries.neurons)
    scaled = torch.where(entries.mult != 0, entries.mult * out[changed].float(), 0.0)
    out[changed] = torch.where(entries.shift != 0, scaled + shifted, scaled).to(out.dtype)
