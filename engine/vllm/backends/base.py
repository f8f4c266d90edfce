"""The seam between what a worker knows of its requests and where the arithmetic on activations is done.

There are two paths. `host_path` looks each step up in the machine's memory when a layer runs: for CPUs, and for GPUs
without Triton kernels, without CUDA graphs. `device_path` keeps everything on the device at fixed addresses, for
compiled models and CUDA graphs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import nn

from engine.kernels.device_table import SlotEntries
from engine.vllm.worker.recording import Recording


class RecordedSpan(NamedTuple):
    """A sentence's tokens [first, end) of a step and the row they are counted in; `sums`: summed up too."""

    row: int
    first: int
    end: int
    sums: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class StepLayout:
    """One forward pass of T tokens; padded tokens may follow them.

    `slots` int32 [T] says what each token is steered by. `recorded` are the sentences to record; no row comes twice.
    """

    slots: NDArray[np.int32]
    recorded: tuple[RecordedSpan, ...] = ()


NOTHING = StepLayout(slots=np.zeros(0, dtype=np.int32))
"""A step in which no token is steered or recorded, however many there are."""


class SteeringBackend(Protocol):
    """One worker's arithmetic; its rows are the `RowStore` of the worker's slots."""

    @property
    def recording(self) -> Recording:
        """Where the sums of recorded sentences are."""
        ...

    def fits(self, row: SlotEntries) -> bool:
        """See `RowStore.fits`."""
        ...

    def write(self, slot: int, row: SlotEntries) -> None:
        """See `RowStore.write`."""
        ...

    def clear(self, slot: int) -> None:
        """See `RowStore.clear`."""
        ...

    def activation(self, layer: int, inner: nn.Module) -> nn.Module:
        """Return the module that does what `inner`, the activation of the worker's `layer`, does, and steers."""
        ...

    def begin_step(self, layout: StepLayout) -> None:
        """Lay out the next forward pass of this thread, on the stream that it runs on; dummy runs have `NOTHING`."""
        ...
