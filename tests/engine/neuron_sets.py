"""Small neuron sets with made-up neurons and patch values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ampsweep.domain.layer_widths import LayerWidths, Width
from engine.neurons.neuron_set import NeuronSet, PatchValues


def make_neuron_set(
    neurons: Mapping[str, Sequence[tuple[int, int]]], *, layers: int = 3, width: Width = 8, patch: bool = True
) -> NeuronSet:
    """Make a set of the given (layer, index) pairs; patch values are drawn with a fixed seed."""
    shape = (len(neurons), *LayerWidths(layers, width).shape)
    random = np.random.default_rng(7)
    values = [random.normal(size=shape).astype(np.float32) for _ in range(3)]
    return NeuronSet(
        id="",
        model="made-up",
        fingerprint="f" * 64,
        layers=layers,
        width=width,
        method="lape",
        params={"top_rate": 0.01},
        corpus="few-words",
        corpus_hash="c" * 64,
        neurons={code: np.array(sorted(pairs), dtype=np.int32).reshape(-1, 2) for code, pairs in neurons.items()},
        patch=PatchValues(max=values[0], median=values[1], mean=values[2]) if patch else None,
    ).with_content_id()
