"""Small neuron sets with made-up neurons and patch values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ampsweep.domain.neurons.layer_widths import LayerWidths, Width
from engine.base import EngineInfo
from engine.neurons.neuron_set import NeuronSet, PatchValues

TOO_STRONG: dict[str, Any] = {"languages": ["ja"], "op": "set", "patch": "max", "factor": 2}
"""An intervention on a set of `with_a_strong_language` with which float32 overflows."""


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


def info_of(neurons: NeuronSet) -> EngineInfo:
    """Describe an engine on vLLM with a made-up model, for which a neuron set was made."""
    return EngineInfo(
        kind="vllm",
        model=neurons.model,
        fingerprint=neurons.fingerprint,
        model_class="",
        layers=neurons.layers,
        width=neurons.width,
        hidden_size=4,
        dtype="float32",
        max_model_len=64,
    )


def with_a_strong_language(neurons: NeuronSet) -> NeuronSet:
    """Return a set with one more language, whose patch values are almost the largest numbers of float32."""
    assert neurons.patch is not None
    assert neurons.residual_mean is not None

    def more(values: NDArray[np.float32], value: float) -> NDArray[np.float32]:
        return np.concatenate([values, np.full_like(values[:1], value)])

    patch = {kind: values for kind, values in vars(neurons.patch).items() if values is not None}
    return replace(
        neurons,
        neurons={**neurons.neurons, "ja": neurons.neurons["fr"]},
        patch=PatchValues(**{kind: more(values, 3e38 if kind == "max" else 0.0) for kind, values in patch.items()}),
        residual_mean=more(neurons.residual_mean, 0.0),
    )
