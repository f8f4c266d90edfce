"""How likely a difference between paired verdicts is by chance."""

from __future__ import annotations

from math import comb

import numpy as np
from numpy.typing import NDArray


def mcnemar(steered: NDArray[np.bool_], baseline: NDArray[np.bool_]) -> float:
    """Return the exact two-sided p-value of McNemar's test on paired verdicts [n]; 1 where none differs.

    Of the items whose verdicts differ, as few as or fewer than were seen in the smaller direction, by a fair coin.
    """
    gained = int((steered & ~baseline).sum())
    lost = int((~steered & baseline).sum())
    tail = sum(comb(gained + lost, count) for count in range(min(gained, lost) + 1))
    return min(1.0, 2 * tail / (1 << (gained + lost)))
