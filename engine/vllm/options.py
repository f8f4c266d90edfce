"""The options that the engine passes to its workers in vLLM's `additional_config`: plain values.

vLLM hashes them into the key of its compile cache, so a graph compiled with other options, or without the patch, is
not reused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ampsweep.domain.neurons.layer_widths import LayerWidths

UNFUSED_EXPERTS = "--unfused-experts"
"""The option of commands for `SteeringOptions.unfused_experts`."""
UNFUSED_EXPERTS_VARIABLE = "AMPSWEEP_UNFUSED_EXPERTS"
"""The environment variable for it, of the server and of the plug-in."""
BackendName = Literal["cpu", "cuda"]
"""The steering backends, see `engine.vllm.backends.base`."""


@dataclass(frozen=True, kw_only=True)
class SteeringOptions:
    """How many interventions a worker has slots for, and which backend does its arithmetic.

    `allow_untested` accepts a vLLM release with which the patch was not tested. With `unfused_experts` a GPU computes
    the experts of a mixture without vLLM's fused kernel. `reports_overflow` is for a server that does not read the
    log-probabilities of every answer, see `engine.vllm.worker.overflow`.

    `patch` must change whenever the operators that are put into a model change, so that the compile cache tells old and
    new graphs apart.
    """

    slots: int
    backend: BackendName
    allow_untested: bool = False
    unfused_experts: bool = False
    reports_overflow: bool = False
    patch: int = 8


def table_entries(widths: LayerWidths, *, slots: int) -> int:
    """Return how many entries the interventions in flight may have together; one has at most all neurons.

    The capacity is a sixteenth of all neurons for each slot, and at least all neurons once. A table on a GPU has room
    for that many entries, of 12 bytes each (16 with statistics). With tensor parallelism each rank's table has the same
    capacity, because all entries may fall on one rank.

    Args:
        widths: The layers of the model.
        slots: Distinct interventions that may be in flight.
    """
    return widths.total * max(1, slots // 16)
