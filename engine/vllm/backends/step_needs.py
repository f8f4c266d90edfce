"""What the host knows about a step with the CUDA backend: which of its kernels would find nothing to do.

An operator leaves those out. A captured CUDA graph is replayed for steps that were not known at its capture, so there
every kernel is launched, and finds out on the device.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

import torch

from engine.vllm.worker.outputs.capturing import CapturedSpan


@dataclass(frozen=True, kw_only=True)
class StepNeeds:
    """What the tokens of a step need besides their activations.

    Attributes:
        statistics: Whether an intervention may use a statistic.
        vectors: Whether an intervention may add a vector to the residual stream.
        recording: Whether a sentence is recorded.
        captured: The requests whose activations are captured. No kernel does that, so it never happens in a graph.
    """

    statistics: bool = True
    vectors: bool = True
    recording: bool = True
    captured: tuple[CapturedSpan, ...] = ()


_ALL = StepNeeds()


class _Current(threading.local):
    needs: StepNeeds = _ALL


_current = _Current()


def set_needs(needs: StepNeeds = _ALL) -> None:
    """Set what this thread's next forward passes need; by default everything."""
    _current.needs = needs


def needs_of(x: torch.Tensor) -> StepNeeds:
    """Return what an operator on `x` must launch in this thread."""
    if x.is_cuda and torch.cuda.is_current_stream_capturing():
        return _ALL
    return _current.needs
