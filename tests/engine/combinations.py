"""Choices of which interventions are made, on a neuron set in which the neurons of languages overlap."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ampsweep.domain.neurons.layer_widths import LayerWidths
from benchmarks.comparisons.checksum_identifier import OFTEN
from engine.neurons.neuron_set import NeuronSet, PatchValues
from engine.neurons.numbering import selected
from tests.all_pairs import Chosen

LANGUAGES = ("en", "fr", "ja", "tr")
Choices = Mapping[str, dict[str, Any]]

EDITS: Choices = {
    "scale": {"op": "scale", "factor": -1.5},
    "add": {"op": "add", "factor": 1.5},
    "set": {"op": "set", "factor": 2.0},
    "add patch": {"op": "add", "patch": "mean", "factor": 2.0},
    "add difference": {"op": "add", "patch": "difference"},
    "set patch": {"op": "set", "patch": "max", "factor": 1.5},
    "add statistic": {"op": "add", "statistic": "mad", "factor": -3.0},
    "set statistic": {"op": "set", "statistic": "p97.5", "factor": 2.0},
    "set spread": {"op": "set", "statistic": "iqr", "factor": 1.5},
    "zero": {"op": "set", "factor": 0.0},
    "vector": {"op": "add", "vector": "diffmean", "factor": 6.0},
    "raw vector": {"op": "add", "vector": "diffmean_raw", "factor": -1.0},
}
TARGETS: Choices = {
    "one": {"languages": ["fr"]},
    "two": {"languages": ["tr", "en"]},
    "a weight": {"languages": {"fr": 0.5}},
    "weights": {"languages": {"fr": 2.0, "en": -0.5}},
    "three": {"languages": {"tr": 1.0, "fr": 0.25, "en": 1.0}},
}
SELECTIONS: Choices = {
    "own": {},
    "random": {"selection": "random", "seed": 5},
    "other": {"selection": "other", "other": "ja"},
    "no language": {"selection": "non_language"},
    "zero": {"selection": "zero"},
    "one neuron": {},  # see `intervention`
}
FURTHER: Choices = {
    "none": {},
    "non-target": {"non_target": {"op": "scale", "factor": 0.25}},
    "source": {"source": {"language": "ja", "op": "set", "factor": 0.0}},
    "both": {
        "non_target": {"op": "add", "factor": 0.5},
        "source": {"language": "ja", "op": "scale", "factor": -1.0},
    },
}
LAYERS: Choices = {"all": {}, "one": {"layers": [1]}, "two": {"layers": [2, 0]}}
TOKENS: Choices = {
    "all": {},
    "prompt": {"scope": "prompt"},
    "generation": {"scope": "generation"},
    "all but the first": {"tokens": {"start": 1}},
    "listed": {"tokens": {"positions": [40, 0, 3, 33], "decay": 0.9}},
    "decaying": {"tokens": {"decay": 0.95}},
    "end of the prompt": {"scope": "prompt", "tokens": {"start": -9, "end": -2}},
    "both ends of the prompt": {"scope": "prompt", "tokens": {"positions": [-1, 0, -50]}},
    "decay in the prompt": {"scope": "prompt", "tokens": {"start": -6, "decay": 0.7}},
    "first generated": {"scope": "generation", "tokens": {"end": 3}},
    "later generated": {"scope": "generation", "tokens": {"start": 2, "end": 8, "decay": 0.8}},
    "listed generated": {"scope": "generation", "tokens": {"positions": [4, 0, 99], "decay": 0.6}},
}
SWITCHED: Choices = {
    "drift": {"when": OFTEN},
    "thinking": {"part": "thinking"},
    "answer": {"part": "answer"},
    "drifting answer": {"part": "answer", "when": OFTEN},
}
"""Choices of tokens that depend on the text of an answer."""
INTERVENTION: Mapping[str, Choices] = {
    "edit": EDITS,
    "targets": TARGETS,
    "selection": SELECTIONS,
    "further": FURTHER,
    "layers": LAYERS,
    "tokens": {**TOKENS, **SWITCHED},
}


def is_valid(chosen: Chosen) -> bool:
    """Say whether docs/spec.md allows these choices of an intervention together."""
    is_vector = chosen["edit"].endswith("vector")
    if is_vector:
        return chosen["further"] == "none" and chosen["selection"] in ("own", "random")
    return (chosen["edit"] == "zero") == (chosen["selection"] == "zero")


def intervention(chosen: Chosen, neurons: NeuronSet) -> dict[str, Any]:
    """Return the JSON of an intervention."""
    raw: dict[str, Any] = {}
    for dimension, choices in INTERVENTION.items():
        raw |= choices[chosen[dimension]]
    if chosen["selection"] == "one neuron":  # of the first target, in a layer that is edited
        (code, *_), layers = raw["languages"], raw.get("layers", [0])
        raw["neuron"] = next([int(layer), int(index)] for layer, index in neurons.neurons[code] if layer == layers[0])
    return raw


def overlapping_neurons(neurons: NeuronSet, *, hidden_size: int) -> NeuronSet:
    """Return a set of four languages with all that interventions need, on the model of another set."""
    rng = np.random.default_rng(11)
    shape = neurons.widths.shape
    return replace(
        neurons,
        id="ns_combinations",
        neurons={code: selected(rng.random(shape) < 0.2, neurons.widths) for code in LANGUAGES},
        patch=PatchValues(
            **{kind: rng.normal(size=(len(LANGUAGES), *shape)).astype(np.float32) for kind in ("max", "median", "mean")}
        ),
        entropy=entropies(neurons.widths),
        residual_mean=rng.normal(size=(len(LANGUAGES), neurons.layers, hidden_size)).astype(np.float32),
    )


def entropies(widths: LayerWidths) -> NDArray[np.float32]:
    """Return entropies of neurons, some of which are equal, and some missing."""
    rng = np.random.default_rng(12)
    entropy = rng.uniform(0.0, 1.4, size=widths.shape).astype(np.float32)
    entropy[rng.random(widths.shape) < 0.3] = np.nan  # no candidates
    entropy[rng.random(widths.shape) < 0.2] = 0.5
    return entropy
