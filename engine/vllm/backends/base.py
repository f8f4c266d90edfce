"""The interface between a worker's requests and the backend that does the arithmetic on activations.

There are two backends. `CpuBackend` reads the layout of a step from host memory when a layer runs. It works on CPUs,
and on GPUs without Triton kernels and without CUDA graphs. `CudaBackend` keeps everything on the device at fixed
addresses, for compiled models and CUDA graphs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import nn

from engine.kernels.device_table import SlotEntries
from engine.vllm.worker.outputs.capturing import CapturedSpan
from engine.vllm.worker.outputs.recording import Recording


class RecordedSpan(NamedTuple):
    """The tokens [first, end) of a step that belong to a recorded sentence.

    They are counted in `row` of the recording, and with `sums` their activations are summed there too. With
    `residual_counts` it is also counted there how often the residual stream is above 0.
    """

    row: int
    first: int
    end: int
    sums: bool
    residual_counts: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class StepLayout:
    """One forward pass of T tokens; padding tokens may follow them.

    Attributes:
        slots: The slot that steers each token, int32 [T]; 0 steers nothing.
        strengths: How strongly each steered token is steered, float32 [T], above 0: a' = a + strength * (op(a) - a), or
            strength times a vector. None for 1 everywhere.
        recorded: The sentences to record, each in a row of its own.
        captured: The requests whose activations are captured.
    """

    slots: NDArray[np.int32]
    strengths: NDArray[np.float32] | None = None
    recorded: tuple[RecordedSpan, ...] = ()
    captured: tuple[CapturedSpan, ...] = ()


NOTHING = StepLayout(slots=np.zeros(0, dtype=np.int32))
"""A step of any length in which no token is steered, recorded or captured."""


class SteeringBackend(Protocol):
    """The steering arithmetic of one worker, and the `RowStore` of its slots."""

    @property
    def recording(self) -> Recording:
        """What is recorded of the sentences being recorded."""
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
        """Return a module that replaces `inner`, the activation of the worker's layer number `layer`, and steers."""
        ...

    def experts(self, layer: int) -> nn.Module:
        """Return a module that computes and steers the experts of the worker's layer number `layer`.

        It is called as `engine.vllm.backends.experts.run_experts` is, without the layer and the activation function.
        """
        ...

    def residual(self, layer: int) -> nn.Module:
        """Return a module that records and steers the residual stream at the output of the worker's layer `layer`.

        It is called with the layer's output, see `engine.vllm.worker.model.blocks`.
        """
        ...

    def begin_step(self, layout: StepLayout) -> None:
        """Set the layout of this thread's next forward pass; a dummy run has `NOTHING`.

        Must be called on the stream that the pass runs on.
        """
        ...
