"""Random neurons that have a given number in each layer: the control of every comparison."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ampsweep.hashing import canonical_json


def draw_neurons(per_layer: NDArray[np.int64], *, width: int, key: Any) -> NDArray[np.int32]:
    """Draw `per_layer[l]` of the `width` neurons of each layer l, without replacement.

    Returns int32 [k, 2] of (layer, index), sorted. The draw depends on `per_layer`, `width` and `key` (any canonical
    JSON value) alone, on every machine: only the raw bits of PCG64 are used, which numpy promises never to change.
    """
    digest = hashlib.sha256(canonical_json(key).encode()).digest()
    bits = np.random.PCG64(int.from_bytes(digest[:16], "big"))
    drawn = [np.sort(np.argsort(bits.random_raw(width), kind="stable")[:count]) for count in per_layer]
    layers = np.repeat(np.arange(len(per_layer)), per_layer)
    indices = np.concatenate(drawn) if drawn else np.empty(0)
    return np.stack([layers, indices], axis=1).astype(np.int32)
