"""What the engine tells its workers at the start, in vLLM's `additional_config`: plain values.

It is also part of vLLM's compile-cache key: a graph that was compiled otherwise, or without the patch, is not found.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

PathName = Literal["host", "device"]
"""See `engine.vllm_patch.path`."""


@dataclass(frozen=True, kw_only=True)
class SteeringOptions:
    """How many interventions a worker has room for, and where it does its arithmetic.

    `patch` changes with the operators that are put into a model, so that the compile cache knows them apart.
    """

    slots: int
    path: PathName
    patch: int = 2


def table_entries(layers: int, width: int, *, slots: int) -> int:
    """Return how many entries a device's table holds for all `slots` together, 12 bytes each (16 with statistics).

    Every slot may change every neuron. One rank of several keeps room for as many, since all of them may be its own.
    """
    return layers * width * slots
