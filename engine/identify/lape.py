"""LAPE: selects neurons whose activation probability has low entropy over languages.

Source: Tang et al. 2024, arXiv 2402.16438, section 2.2.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ampsweep.domain.neurons.neuron_set import ACTIVATION_BAR, FILTER_RATE, TOP_RATE
from engine.identify.stats import ActivationStats
from engine.neurons.numbering import selected

MIN_REACHED = 100
"""Tokens of a language that an expert must see for the probabilities of its neurons to be taken at face value.

It is the least denominator of p. Otherwise p could be 1 in a language of which one token reached the expert.
"""
_DECIMALS = 12  # of entropies, so that rounding errors of logarithms do not order equal ones


def select_lape(
    stats: ActivationStats,
    *,
    top_rate: float = TOP_RATE,
    filter_rate: float = FILTER_RATE,
    activation_bar: float = ACTIVATION_BAR,
) -> dict[str, NDArray[np.int32]]:
    """Select the neurons of each language.

    With p (see `probabilities`) and q = p / sum_g p, a neuron has the entropy H = -sum_g q log q. It is a candidate if
    p exceeds the `filter_rate` quantile in some language. The `top_rate` share of all neurons with the lowest entropy
    is kept, and each of them belongs to the languages in which p exceeds the `activation_bar` quantile. A quantile is
    the round(n * rate)-th smallest of all n = G * N probabilities, as in the published code. Ties go to the lower
    layer, then to the lower index. A neuron that is never active has no entropy and is not a candidate.

    Args:
        stats: Statistics of G languages over N neurons.
        top_rate: Share of all N neurons that is kept.
        filter_rate: Quantile that a candidate exceeds.
        activation_bar: Quantile that p exceeds in the languages of a neuron.

    Returns:
        The neurons of each language, int32 [k, 2] of (layer, index), sorted. Every language has an entry.
    """
    belongs = belonging(probabilities(stats), top_rate=top_rate, filter_rate=filter_rate, activation_bar=activation_bar)
    return {code: selected(belongs[index], stats.widths) for index, code in enumerate(stats.languages)}


def belonging(
    p: NDArray[np.float64], *, top_rate: float, filter_rate: float, activation_bar: float
) -> NDArray[np.bool_]:
    """Return which neurons LAPE selects for each language, bool [G, N], from their probabilities p, [G, N].

    See `select_lape`, which has the rule.
    """
    entropy = np.where(candidates(p, filter_rate), np.round(entropy_of(p), _DECIMALS), np.inf)
    lowest = np.argsort(entropy, kind="stable")[: round(entropy.size * top_rate)]
    chosen = np.zeros(entropy.size, dtype=bool)
    chosen[lowest[np.isfinite(entropy[lowest])]] = True
    belongs: NDArray[np.bool_] = (p > quantile(p, activation_bar)) & chosen
    return belongs


def candidate_entropy(stats: ActivationStats, *, filter_rate: float) -> NDArray[np.float32]:
    """Return the entropy H of each candidate (`select_lape`) in nats; NaN where a neuron is not a candidate.

    It is float32 of the shape `stats.widths.shape`.
    """
    p = probabilities(stats)
    entropy = np.where(candidates(p, filter_rate), entropy_of(p), np.nan)
    return entropy.astype(np.float32).reshape(stats.widths.shape)


def probabilities(stats: ActivationStats) -> NDArray[np.float64]:
    """Return p, float64 [G, N]: the share of a language's tokens with activation > 0; 0 if it has no tokens.

    In a mixture of experts it is the share of the tokens that were routed to the neuron's expert, or of MIN_REACHED
    tokens if they were fewer.
    """
    counts = stats.counts.reshape(len(stats.counts), -1)
    if stats.reached is None:
        tokens = np.maximum(stats.tokens, 1)[:, None]
    else:
        tokens = np.maximum(stats.reached.reshape(counts.shape), MIN_REACHED)
    p: NDArray[np.float64] = counts / tokens
    return p


def candidates(p: NDArray[np.float64], filter_rate: float) -> NDArray[np.bool_]:
    """Return which neurons are candidates, bool [N]: those whose p, [G, N], exceeds the quantile in some language."""
    exceeding: NDArray[np.bool_] = np.any(p > quantile(p, filter_rate), axis=0)
    return exceeding


def quantile(values: NDArray[np.float64], rate: float) -> float:
    """Return the round(n * rate)-th smallest of all n values, index least the smallest."""
    rank = max(1, round(values.size * rate)) - 1
    return float(np.partition(values.ravel(), rank)[rank])


def entropy_of(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return H, float64 [N], in nats, of p, [G, N], with 0 log 0 = 0; 0 where every p is 0."""
    total = p.sum(axis=0)
    q = p / np.where(total > 0, total, 1.0)
    entropy: NDArray[np.float64] = -(q * np.log(np.where(q > 0, q, 1.0))).sum(axis=0)
    return entropy
