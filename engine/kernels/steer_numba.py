"""The float32 kernels for CPUs: one pass over the entries that the batch touches, compiled by Numba.

Cost follows the neurons touched, not slots x width. They run on one thread: what they touch is a few per cent of what
the matrix products beside them do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

_ENTRIES = "int32[::1], int64[:, ::1], int64, int32[::1], float32[::1], float32[::1], float32[::1], float32[::1]"


def _compiled(signature: str) -> Callable[..., Any]:
    made: Callable[..., Any] = numba.njit(signature, nogil=True, cache=True, fastmath=False)
    return made


@_compiled(f"(float32[:, :], float32[:, :], {_ENTRIES})")
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
) -> None:
    """Apply each token's slot to `out` [T, F] = activation * up, in place: out' = mult * out + shift * up.

    Here shift is add + coef * the token's `statistic` (float32 [T], read only where coef is not 0). `slots` int32 [T]
    names a row of `starts` int64 [S, L + 1] for each token; the entries starts[s, layer] up to starts[s, layer + 1] of
    `indices`, `mult`, `add`, `coef` are the neurons that slot changes. `up` is [T, F]. Slot 0 has no entries. With mult
    0 the old value is not looked at, infinite or not; an entry that changes nothing changes no bit.
    """
    for token in range(slots.shape[0]):
        slot = slots[token]
        if slot != 0:
            for entry in range(starts[slot, layer], starts[slot, layer + 1]):
                neuron = indices[entry]
                shift = add[entry]
                if coef[entry] != 0:
                    shift += coef[entry] * statistic[token]
                value = mult[entry] * out[token, neuron] if mult[entry] != 0 else np.float32(0.0)
                if shift != 0:
                    value += shift * up[token, neuron]
                out[token, neuron] = value


@_compiled(f"(float32[:, :], {_ENTRIES})")
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
) -> None:
    """Do the same where `out` [T, F] is the activation itself, of an MLP without a gate: out' = mult * out + shift."""
    for token in range(slots.shape[0]):
        slot = slots[token]
        if slot != 0:
            for entry in range(starts[slot, layer], starts[slot, layer + 1]):
                neuron = indices[entry]
                shift = add[entry]
                if coef[entry] != 0:
                    shift += coef[entry] * statistic[token]
                value = mult[entry] * out[token, neuron] if mult[entry] != 0 else np.float32(0.0)
                out[token, neuron] = value + shift if shift != 0 else value
