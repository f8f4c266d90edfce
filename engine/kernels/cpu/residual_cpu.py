"""Adds vectors to the residual stream: compiled by Numba for float32 on CPUs, in torch for other dtypes and devices.

Both gather each token's vector by its slot. So their cost does not depend on how many distinct vectors a batch has.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from engine.kernels.cpu.compiled import compiled


def add_vectors(
    hidden: torch.Tensor,
    slots: NDArray[np.int32],
    adds: NDArray[np.bool_],
    vectors: NDArray[np.float32],
    layer: int,
    strengths: NDArray[np.float32],
) -> None:
    """Add to each token the vector of its slot, in place: hidden' = hidden + strength * vector.

    It is computed in float32 and rounded once.

    Args:
        hidden: [at least T, H]; changed in place.
        slots: Each token's slot, int32 [T]. Slot 0 adds nothing.
        adds: Whether a slot adds anything at a layer, bool [S, L].
        vectors: float32 [S, L, H]; read only where `adds` says so.
        layer: The layer.
        strengths: Each token's strength, float32 [T].
    """
    if hidden.device.type == "cpu" and hidden.dtype == torch.float32:
        _add_vectors(hidden.numpy(), slots, adds, vectors, layer, strengths)
        return
    tokens = np.flatnonzero(adds[slots, layer])
    if len(tokens):
        on = torch.from_numpy(tokens).to(hidden.device)
        added = torch.from_numpy(strengths[tokens, None] * vectors[slots[tokens], layer]).to(hidden.device)
        hidden[on] = (hidden[on].float() + added).to(hidden.dtype)


@compiled("(float32[:, :], int32[::1], boolean[:, ::1], float32[:, :, ::1], int64, float32[::1])")
def _add_vectors(
    hidden: NDArray[np.float32],
    slots: NDArray[np.int32],
    adds: NDArray[np.bool_],
    vectors: NDArray[np.float32],
    layer: int,
    strengths: NDArray[np.float32],
) -> None:
    for token in range(slots.shape[0]):
        slot = slots[token]
        if adds[slot, layer]:
            for column in range(hidden.shape[1]):
                hidden[token, column] += strengths[token] * vectors[slot, layer, column]
