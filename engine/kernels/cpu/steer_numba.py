"""The float32 steering kernels for CPUs: one pass over the entries that the batch uses, compiled by Numba.

Their cost is proportional to the neurons changed, not to slots x width. They run on one thread, because they take a few
per cent of the time of a layer's matrix products.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.kernels.cpu.compiled import compiled

_ENTRIES = f"int32[::1], int64[:, ::1], int64, int32[::1], {', '.join(['float32[::1]'] * 5)}"


@compiled(f"(float32[:, :], float32[:, :], {_ENTRIES})")
def steer_gated(
    up: NDArray[np.float32],
    out: NDArray[np.float32],
    slots: NDArray[np.int32],
    starts: NDArray[np.int64],
    layer: int,
    indices: NDArray[np.int32],
    mult: NDArray[np.float32],
    add: NDArray[np.float32],
    coef: NDArray[np.float32],
    statistic: NDArray[np.float32],
    strengths: NDArray[np.float32],
) -> None:
    """Apply each token's slot to `out` [T, F] = activation * up, in place: out' = factor * out + shift * up.

    Here factor = 1 - strength + strength * mult and shift = strength * (add + coef * statistic). With factor 0 the old
    value is not read, so it may be infinite. A neutral entry changes no bit.

    Args:
        up: [T, F].
        out: [T, F]; changed in place.
        slots: Each token's slot, int32 [T]. Slot 0 has no entries.
        starts: Slot s changes the entries starts[s, layer]:starts[s, layer + 1]; int64 [S, L + 1].
        layer: The layer to steer.
        indices: Neurons, int32 [n].
        mult: float32 [n].
        add: float32 [n].
        coef: float32 [n].
        statistic: Each token's statistic, float32 [T]; read only where coef is not 0.
        strengths: Each token's strength, float32 [T].
    """
    for token in range(slots.shape[0]):
        slot, strength = slots[token], strengths[token]
        if slot != 0:
            for entry in range(starts[slot, layer], starts[slot, layer + 1]):
                neuron = indices[entry]
                factor = (np.float32(1.0) - strength) + strength * mult[entry]
                shift = add[entry]
                if coef[entry] != 0:
                    shift += coef[entry] * statistic[token]
                shift *= strength
                value = factor * out[token, neuron] if factor != 0 else np.float32(0.0)
                if shift != 0:
                    value += shift * up[token, neuron]
                out[token, neuron] = value


@compiled(f"(float32[:, :], {_ENTRIES})")
def steer_plain(
    out: NDArray[np.float32],
    slots: NDArray[np.int32],
    starts: NDArray[np.int64],
    layer: int,
    indices: NDArray[np.int32],
    mult: NDArray[np.float32],
    add: NDArray[np.float32],
    coef: NDArray[np.float32],
    statistic: NDArray[np.float32],
    strengths: NDArray[np.float32],
) -> None:
    """Apply each token's slot where `out` [T, F] is the activation of an MLP without a gate.

    In place: out' = factor * out + shift. Arguments as in `steer_gated`.
    """
    for token in range(slots.shape[0]):
        slot, strength = slots[token], strengths[token]
        if slot != 0:
            for entry in range(starts[slot, layer], starts[slot, layer + 1]):
                neuron = indices[entry]
                factor = (np.float32(1.0) - strength) + strength * mult[entry]
                shift = add[entry]
                if coef[entry] != 0:
                    shift += coef[entry] * statistic[token]
                shift *= strength
                value = factor * out[token, neuron] if factor != 0 else np.float32(0.0)
                out[token, neuron] = value + shift if shift != 0 else value
