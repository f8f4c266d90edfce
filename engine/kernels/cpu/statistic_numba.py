"""Statistics of tokens on a CPU, compiled by Numba. Order statistics are found by a radix select, without sorting.

The float32 values are mapped to unsigned keys of the same order. The keys are counted by their upper 11 bits, those in
the selected bucket by the next 11 bits, and then by the last 10. That takes a few passes over the activations for any
percentile. It runs on one thread, like the steering kernel: the matrix products of a layer take many times as long.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ampsweep.domain.statistic import DEVIATION, MAX, MEAN, QUANTILE, SPREAD, STD
from engine.kernels.cpu.compiled import compiled

_compiled = partial(compiled, error_model="numpy")


def take_statistics(
    activations: NDArray[np.float32], plan: NDArray[np.int32], weights: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return one statistic for each token, float32 [T]; 0 for a token of kind NONE. Sums are float64.

    Args:
        activations: [T, F].
        plan: Kind and ranks of each token's statistic, int32 [T, 3]; see `StatisticPlan`.
        weights: Weights of each token's statistic, float32 [T, 2].
    """
    out = np.zeros(len(activations), dtype=np.float32)
    _take(np.ascontiguousarray(activations), plan, weights, out)
    return out


@_compiled("float32(uint32)")
def _float(key: np.uint32) -> Any:
    bits = np.empty(1, dtype=np.uint32)
    bits[0] = key ^ (np.uint32(0x80000000) if key >> 31 else np.uint32(0xFFFFFFFF))
    return bits.view(np.float32)[0]


@_compiled("float32(float32[::1], int64, float32, uint32[::1], uint32[::1])")
def _quantile(
    values: NDArray[np.float32], rank: int, weight: float, keys: NDArray[np.uint32], near: NDArray[np.uint32]
) -> Any:
    """Return the value of a rank, interpolated to the next by `weight`; `keys` and `near` are scratch buffers [F]."""
    bits = values.view(np.uint32)
    for index in range(len(values)):
        keys[index] = bits[index] ^ (np.uint32(0xFFFFFFFF) if bits[index] >> 31 else np.uint32(0x80000000))
        near[index] = keys[index]
    size = len(values)
    counts = np.empty(1 << 11, dtype=np.int64)
    for shift in (21, 10, 0):
        mask = np.uint32(0x3FF if shift == 0 else 0x7FF)
        counts[:] = 0
        for index in range(size):
            counts[(near[index] >> np.uint32(shift)) & mask] += 1
        digit = 0
        while rank >= counts[digit]:
            rank -= counts[digit]
            digit += 1
        remaining = 0
        for index in range(size):
            key = near[index]
            near[remaining] = key
            remaining += ((key >> np.uint32(shift)) & mask) == digit
        size = remaining
    selected = near[0]
    value = _float(selected)
    if weight > 0 and rank + 1 >= size:  # else the next one is equal
        following = np.uint32(0xFFFFFFFF)
        for key in keys:
            if key > selected and key < following:
                following = key
        value += weight * (_float(following) - value)
    return value


@_compiled("(float32[:, ::1], int32[:, ::1], float32[:, ::1], float32[::1])")
def _take(
    activations: NDArray[np.float32], plan: NDArray[np.int32], weights: NDArray[np.float32], out: NDArray[np.float32]
) -> None:
    tokens, width = activations.shape
    keys, near = np.empty(width, dtype=np.uint32), np.empty(width, dtype=np.uint32)
    for token in range(tokens):
        values, kind = activations[token], plan[token, 0]
        if kind in (MEAN, STD):
            mean = values.astype(np.float64).mean()
            out[token] = mean
            if kind == STD:
                squares = 0.0
                for value in values:
                    squares += (value - mean) ** 2
                out[token] = np.sqrt(squares / max(width - 1, 1))
        elif kind == MAX:
            out[token] = values.max()
        elif kind in (QUANTILE, SPREAD, DEVIATION):
            statistic = _quantile(values, plan[token, 1], weights[token, 0], keys, near)
            if kind == SPREAD:
                statistic -= _quantile(values, plan[token, 2], weights[token, 1], keys, near)
            elif kind == DEVIATION:
                statistic = _quantile(np.abs(values - statistic), plan[token, 1], weights[token, 0], keys, near)
            out[token] = statistic
