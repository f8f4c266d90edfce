"""How likely a difference between paired verdicts is by chance."""

from __future__ import annotations

from math import comb

import numpy as np
from numpy.typing import NDArray

FLIPS = 10_000


def mcnemar(steered: NDArray[np.bool_], baseline: NDArray[np.bool_]) -> float:
    """Return the exact two-sided p-value of McNemar's test on paired verdicts [n]; 1 where none differs.

    Of the items whose verdicts differ, as few as or fewer than were seen in the smaller direction, by a fair coin.
    """
    gained = int((steered & ~baseline).sum())
    lost = int((~steered & baseline).sum())
    tail = sum(comb(gained + lost, count) for count in range(min(gained, lost) + 1))
    return min(1.0, 2 * tail / (1 << (gained + lost)))


def sign_flip(difference: NDArray[np.float64], rng: np.random.Generator) -> float:
    """Return the two-sided p-value of paired differences [n] by random flips of their signs (Fisher's test).

    The share of FLIPS flips, the differences as they are counted among them, whose mean is as far from 0 or farther.
    """
    signs = rng.integers(0, 2, size=(FLIPS - 1, len(difference)), dtype=np.int8) * 2 - 1
    flipped = np.abs(signs @ difference)
    seen = abs(float(difference.sum()))
    return float((1 + (flipped >= seen * (1 - 1e-12)).sum()) / FLIPS)
