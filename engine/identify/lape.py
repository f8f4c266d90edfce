"""LAPE: the neurons whose activation is probable in few languages (Tang et al. 2024, arXiv 2402.16438, section 2.2)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ampsweep.domain.neuron_set import ACTIVATION_BAR, FILTER_RATE, TOP_RATE
from engine.identify.stats import ActivationStats

_DECIMALS = 12  # of an entropy: equal ones must not be told apart by the last bit of a logarithm


def select_lape(
    stats: ActivationStats,
    *,
    top_rate: float = TOP_RATE,
    filter_rate: float = FILTER_RATE,
    activation_bar: float = ACTIVATION_BAR,
) -> dict[str, NDArray[np.int32]]:
    """Return for each language of `stats` its neurons, int32 [k, 2] of (layer, index), sorted.

    p = counts / tokens; q = p / sum_g p; H = -sum_g q log q. A quantile is the round(n * rate)-th smallest of all
    n = G * L * F probabilities, as in the published code. Of equal entropies those of a lower layer, then of a lower
    index, come first. A neuron that is never active has no entropy and is no candidate.
    """
    p = probabilities(stats)
    candidate = (p > quantile(p, filter_rate)).any(axis=0)
    entropy = np.where(candidate, np.round(_entropy(p), _DECIMALS), np.inf).ravel()
    kept = np.argsort(entropy, kind="stable")[: round(entropy.size * top_rate)]
    chosen = np.zeros(entropy.size, dtype=bool)
    chosen[kept[np.isfinite(entropy[kept])]] = True
    belongs = (p > quantile(p, activation_bar)) & chosen.reshape(candidate.shape)
    return {code: np.argwhere(belongs[at]).astype(np.int32) for at, code in enumerate(stats.languages)}


def probabilities(stats: ActivationStats) -> NDArray[np.float64]:
    """Return p float64 [G, L, F]: the share of a language's tokens at which a neuron is active; 0 without tokens."""
    p: NDArray[np.float64] = stats.counts / np.maximum(stats.tokens, 1)[:, None, None]
    return p


def quantile(values: NDArray[np.float64], rate: float) -> float:
    """Return the round(n * rate)-th smallest of all n values, at least the smallest."""
    rank = max(1, round(values.size * rate)) - 1
    return float(np.partition(values.ravel(), rank)[rank])


def _entropy(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return H float64 [L, F] in nats, with 0 log 0 = 0, also where every p is 0."""
    total = p.sum(axis=0)
    q = p / np.where(total > 0, total, 1.0)
    entropy: NDArray[np.float64] = -(q * np.log(np.where(q > 0, q, 1.0))).sum(axis=0)
    return entropy
