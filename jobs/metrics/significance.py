"""How likely a difference between paired verdicts is by chance, and how large it is."""

from __future__ import annotations

from collections.abc import Sequence
from math import comb

import numpy as np
from numpy.typing import NDArray

FLIPS = 10_000


def mcnemar(steered: NDArray[np.bool_], baseline: NDArray[np.bool_]) -> float:
    """Return the exact two-sided p-value of McNemar's test on paired verdicts [n]; 1 where none differs.

    Of the items whose verdicts differ, as few as or fewer than were seen in the smaller direction, by a fair coin.
    """
    gained, lost = _discordant(steered, baseline)
    tail = sum(comb(gained + lost, count) for count in range(min(gained, lost) + 1))
    return min(1.0, 2 * tail / (1 << (gained + lost)))


def mcnemar_mid(steered: NDArray[np.bool_], baseline: NDArray[np.bool_]) -> float:
    """Return the mid-p-value of McNemar's test: of what was seen itself, only half is counted.

    The exact test errs on the side of no difference; this one keeps its level in practice too, and rarely exceeds it
    (Fagerland et al. 2013, doi 10.1186/1471-2288-13-91).
    """
    gained, lost = _discordant(steered, baseline)
    return mcnemar(steered, baseline) - comb(gained + lost, gained) / (1 << (gained + lost)) if gained != lost else 1.0


def _discordant(steered: NDArray[np.bool_], baseline: NDArray[np.bool_]) -> tuple[int, int]:
    """Return how many verdicts turned right, and how many wrong."""
    return int((steered & ~baseline).sum()), int((~steered & baseline).sum())


def sign_flip(difference: NDArray[np.float64], rng: np.random.Generator) -> float:
    """Return the two-sided p-value of paired differences [n] by random flips of their signs (Fisher's test).

    The share of FLIPS flips, the differences as they are counted among them, whose mean is as far from 0 or farther.
    """
    signs = rng.integers(0, 2, size=(FLIPS - 1, len(difference)), dtype=np.int8) * 2 - 1
    flipped = np.abs(signs @ difference)
    seen = abs(float(difference.sum()))
    return float((1 + (flipped >= seen * (1 - 1e-12)).sum()) / FLIPS)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for being several (Holm 1979), in the order given; at most 1."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    corrected = [0.0] * len(p_values)
    largest = 0.0
    for rank, at in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[at]))
        corrected[at] = largest
    return corrected


def cohens_g(steered: NDArray[np.bool_], baseline: NDArray[np.bool_]) -> float:
    """Return how far the share of gains among the items whose verdicts differ is from a half; 0 where none differs.

    From -0.5 (all lost) to 0.5 (all gained); Cohen (1988) calls 0.05 small, 0.15 medium, 0.25 large.
    """
    gained, lost = _discordant(steered, baseline)
    return gained / (gained + lost) - 0.5 if gained + lost else 0.0


def cohens_dz(difference: NDArray[np.float64]) -> float | None:
    """Return the mean of paired differences [n] over their standard deviation (n - 1).

    0 where all are 0; None where they have no spread. Cohen (1988) calls 0.2 small, 0.5 medium, 0.8 large.
    """
    if not difference.any():
        return 0.0
    spread = float(difference.std(ddof=1)) if len(difference) > 1 else 0.0
    return float(difference.mean()) / spread if spread else None
