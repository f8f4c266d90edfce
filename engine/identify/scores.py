"""LAPE's scores of every neuron and of the residual stream: entropy, probabilities, and what LAPE would select.

Attention heads are left out: their outputs are not recorded.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ampsweep.domain.neurons.layer_widths import LayerWidths
from ampsweep.domain.neurons.neuron_set import ACTIVATION_BAR, FILTER_RATE, TOP_RATE
from engine.identify.lape import belonging, candidates, entropy_of, probabilities
from engine.identify.stats import ActivationStats
from engine.neurons.lape_scores import LapeScores, SiteScores

_DEFAULTS = {"top_rate": TOP_RATE, "filter_rate": FILTER_RATE, "activation_bar": ACTIVATION_BAR}


def scores_of(stats: ActivationStats, *, neuron_set: str, params: Mapping[str, float | int]) -> LapeScores:
    """Return the scores of a recording with `residual_counts`.

    The residual stream is scored as if each of its dimensions at a layer's output were a neuron: p is the share of a
    language's tokens at which it is above 0. Quantiles and `top_rate` are taken over each site by itself.

    Args:
        stats: The recording.
        neuron_set: Id of the set that was identified from it.
        params: The parameters of the set's method. Those of LAPE that it lacks have their defaults.
    """
    assert stats.residual_counts is not None, "the residual stream was counted"
    _, layers, hidden_size = stats.residual_counts.shape
    tokens = np.maximum(stats.tokens, 1)[:, None]
    rates = {name: float(params.get(name, default)) for name, default in _DEFAULTS.items()}
    residual_p = stats.residual_counts.reshape(len(tokens), -1) / tokens
    return LapeScores(
        neuron_set=neuron_set,
        languages=stats.languages,
        params=rates,
        sites={
            "mlp": _site_scores(probabilities(stats), stats.widths, rates),
            "residual": _site_scores(residual_p, LayerWidths(layers, hidden_size), rates),
        },
    )


def _site_scores(p: NDArray[np.float64], widths: LayerWidths, rates: Mapping[str, float]) -> SiteScores:
    """Return the scores of a site with the probabilities p, [G, D]."""
    return SiteScores(
        widths=widths,
        probability=p.astype(np.float32),
        entropy=np.where(p.any(axis=0), entropy_of(p) + 0.0, np.nan).astype(np.float32),  # + 0.0 turns -0.0 into 0.0
        candidate=candidates(p, rates["filter_rate"]),
        selected=belonging(p, **rates),
    )
