"""The float32 kernel for CPUs: one pass over the entries that the batch touches, compiled by Numba.

Cost follows the neurons touched, not slots x width. It runs on one thread: what it touches is a few per cent of what
the matrix products beside it do.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray


@numba.njit(  # type: ignore[untyped-decorator]
    "(float32[:, :], float32[:, :], int32[::1], int64[:, ::1], int64, int32[::1], float32[::1], float32[::1])",
    nogil=True,
    cache=True,
    fastmath=False,
)
def steer_gated(
    up: NDArray[np.float32],
    out: NDArray[np.float32],
    slots: NDArray[np.int32],
    starts: NDArray[np.int64],
    layer: int,
    indices: NDArray[np.int32],
    mult: NDArray[np.float32],
    add: NDArray[np.float32],
) -> None:
    """Apply each token's slot to `out` [T, F], in place.

    `slots` int32 [T] names a row of `starts` int64 [S, L + 1] for each token; the entries starts[s, layer] up to
    starts[s, layer + 1] of `indices`, `mult`, `add` are the neurons that slot changes. `up` [T, F] is the other factor
    of `out`. Slot 0 has no entries.
    """
    for token in range(slots.shape[0]):
        slot = slots[token]
        if slot != 0:
            for entry in range(starts[slot, layer], starts[slot, layer + 1]):
                neuron = indices[entry]
                out[token, neuron] = mult[entry] * out[token, neuron] + add[entry] * up[token, neuron]
