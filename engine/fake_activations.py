"""The activations of the fake engine: numbers that depend on the tokens up to theirs, the neuron and the steering."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ampsweep.hashing import canonical_json
from engine.capture.selection import NeuronSelection


def fake_activations(
    ids: Sequence[int], neurons: NeuronSelection, *, key: Sequence[str]
) -> tuple[NDArray[np.float32], ...]:
    """Return an activation of each neuron at each token, for each layer float32 [T, n], about half of them above 0.

    Args:
        ids: The tokens.
        neurons: The neurons.
        key: What steers the model.
    """
    values = tuple(np.empty((len(ids), count), np.float32) for count in neurons.counts)
    text = hashlib.sha256(canonical_json(["capture", *key]).encode())
    for position, token in enumerate(ids):
        text.update(f" {token}".encode())
        for layer, indices, rows in zip(neurons.layers, neurons.indices, values, strict=True):
            seed = [layer, int.from_bytes(text.digest()[:8], "big")]
            rows[position] = np.random.default_rng(seed).normal(size=int(indices[-1]) + 1)[indices]
    return values
