"""Significance tests and effect sizes of paired differences, and the correction for multiple tests."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from jobs.statistics.bootstrap import batches

FLIPS = 10_000
"""Random sign patterns, or permutations, of a test that cannot try all of them."""
EXACT_PAIRS = 13
"""The largest number of pairs of which all sign patterns are tried: there are 2^13 = 8,192, fewer than `FLIPS`."""
_ROUNDING = 1e-12
"""The largest difference between sums of the same numbers, as a share of the sum of their sizes."""


def mcnemar(gained: int, lost: int) -> float:
    """Return the exact two-sided p-value of McNemar's test; 1 if all pairs agree.

    Args:
        gained: Number of items that are correct only with the intervention.
        lost: Number of items that are correct only without it.
    """
    return min(1.0, 2 * _tail(min(gained, lost), gained + lost)) if gained != lost else 1.0


def mcnemar_mid(gained: int, lost: int) -> float:
    """Return the mid-p-value of McNemar's test, which counts only half of the probability of the observed outcome.

    The exact test is conservative; this one keeps its level in practice and rarely exceeds it (Fagerland et al. 2013,
    doi 10.1186/1471-2288-13-91, also for as many gains as losses). Arguments as for `mcnemar`.
    """
    pairs, fewer = gained + lost, min(gained, lost)
    if not pairs:
        return 1.0
    if gained == lost:
        return 0.5 + _tail(fewer - 1, pairs)
    return _tail(fewer, pairs) + _tail(fewer - 1, pairs)


def _tail(most: int, pairs: int) -> float:
    """Return the probability of at most `most` heads in `pairs` tosses of a fair coin.

    It is that of `scipy.stats.binom.cdf`, whose module takes a second to import.
    """
    from scipy.special import betaincc

    return float(betaincc(most + 1, pairs - most, 0.5)) if most >= 0 else 0.0


def discordant(steered: NDArray[np.bool_], baseline: NDArray[np.bool_]) -> tuple[int, int]:
    """Return how many of n items are correct only when steered, and how many only in the baseline."""
    return int((steered & ~baseline).sum()), int((~steered & baseline).sum())


def sign_flip(difference: NDArray[np.float64], rng: np.random.Generator) -> float:
    """Return the two-sided p-value of paired differences [n] from flips of their signs (Fisher's randomization test).

    It is the share of sign patterns whose mean is at least as far from 0 as the observed mean. It is exact if the
    differences other than 0 are all of one size, as those of a property that items have or lack: this is the binomial
    test, McNemar's. It is also exact for up to EXACT_PAIRS of them, whose patterns are all tried. Of more, FLIPS random
    patterns are tried, the observed one among them (Phipson & Smyth 2010, doi 10.2202/1544-6115.1585).
    """
    changed = difference[difference != 0]  # the sign of a zero changes no mean
    sizes = np.abs(changed)
    if not len(changed) or sizes.max() - sizes.min() <= _ROUNDING * sizes.max():
        return mcnemar(int((changed > 0).sum()), int((changed < 0).sum()))
    observed = abs(float(changed.sum())) - _ROUNDING * float(sizes.sum())
    if len(changed) <= EXACT_PAIRS:
        return float((np.abs((2 * all_patterns(len(changed)) - 1) @ changed) >= observed).mean())
    extreme = 1
    for rows in batches(FLIPS - 1, len(changed)):
        signs = rng.integers(0, 2, size=(rows, len(changed)), dtype=np.int8) * 2 - 1
        extreme += int((np.abs(signs @ changed) >= observed).sum())
    return extreme / FLIPS


def all_patterns(pairs: int) -> NDArray[np.int8]:
    """Return all patterns [2^pairs, pairs] of zeros and ones."""
    patterns: NDArray[np.int8] = (np.arange(2**pairs)[:, None] >> np.arange(pairs) & 1).astype(np.int8)
    return patterns


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for multiple tests (Holm 1979), in the order of the arguments; at most 1."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    corrected = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = largest
    return corrected


def cohens_g(gained: int, lost: int) -> float:
    """Return Cohen's g: the share of gains among the items that changed, minus one half; 0 if none changed.

    From -0.5 (all lost) to 0.5 (all gained); Cohen (1988) calls 0.05 small, 0.15 medium and 0.25 large. Arguments as
    for `mcnemar`.
    """
    return gained / (gained + lost) - 0.5 if gained + lost else 0.0


def cohens_dz(difference: NDArray[np.float64]) -> float | None:
    """Return Cohen's d_z: the mean of paired differences [n] divided by their standard deviation (n - 1).

    0 if all differences are 0; None if they are all the same otherwise. Cohen (1988) calls 0.2 small, 0.5 medium and
    0.8 large.
    """
    if not difference.any():
        return 0.0
    spread = float(difference.std(ddof=1)) if len(difference) > 1 else 0.0
    is_constant = spread <= 1e-12 * float(np.abs(difference).max())  # but for rounding
    return None if is_constant else float(difference.mean()) / spread
