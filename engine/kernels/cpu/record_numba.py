"""The float32 CPU kernel that counts, for each sentence, how often each neuron of a layer is above 0.

It makes one pass at memory speed, on one thread, over the activations, or in a gated MLP over the gates: there an
activation is above 0 exactly where its gate is, so none is computed.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.kernels.cpu.compiled import compiled


@compiled("(float32[:, ::1], int64[:, ::1], int32[:, ::1], int64)")
def count_positive(x: NDArray[np.float32], spans: NDArray[np.int64], counts: NDArray[np.int32], width: int) -> None:
    """Count the tokens in which each neuron is above 0.

    Args:
        x: Activations, [T, F], or gates in the first F columns, [T, 2F].
        spans: For each sentence its row of `counts` and its tokens [first, end), [n, 3].
        counts: Where the counts are added, int32 [R, at least F].
        width: Number of neurons of the layer, F.
    """
    zero = np.float32(0)
    for span in range(spans.shape[0]):
        row, token, end = counts[spans[span, 0]], spans[span, 1], spans[span, 2]
        while token + 4 <= end:  # four tokens a pass, so the row is read and written a quarter as often
            a, b, c, d = x[token, :width], x[token + 1, :width], x[token + 2, :width], x[token + 3, :width]
            for neuron in range(width):
                row[neuron] += (
                    np.int32(a[neuron] > zero)
                    + np.int32(b[neuron] > zero)
                    + np.int32(c[neuron] > zero)
                    + np.int32(d[neuron] > zero)
                )
            token += 4
        while token < end:
            a = x[token, :width]
            for neuron in range(width):
                row[neuron] += np.int32(a[neuron] > zero)
            token += 1
