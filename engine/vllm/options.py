"""What the engine tells its workers at the start, in vLLM's `additional_config`: plain values.

It is also part of vLLM's compile-cache key: a graph that was compiled otherwise, or without the patch, is not found.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

PathName = Literal["host", "device"]
"""See `engine.vllm.backends.base`."""


@dataclass(frozen=True, kw_only=True)
class SteeringOptions:
    """How many interventions a worker has room for, and where it does its arithmetic.

    `patch` changes with the operators that are put into a model, so that the compile cache knows them apart.
    """

    slots: int
    path: PathName
    patch: int = 2


def table_entries(layers: int, width: int, *, slots: int) -> int:
    """Return how many entries the interventions in flight may have together, each up to layers * width.

    A sixteenth of all neurons for each slot, and at least all of them once. A table on a device has room for as many,
    of 12 bytes each (16 with statistics); so has that of one rank of several, since all of them may be its own.
    """
    return layers * width * max(1, slots // 16)
