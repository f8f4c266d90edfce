"""The module that stands in place of an MLP's activation on the host path, and the opaque operator in it.

The operator looks up the step under way in its thread; torch.compile sees only that `out` may change. Where there is
none nothing is changed.
"""

from __future__ import annotations

import threading
from typing import Any, Protocol

import torch
from torch import nn


class LayerStep(Protocol):
    """What a step does with one layer's activations."""

    def apply(self, layer: int, x: torch.Tensor, out: torch.Tensor) -> None:
        """Steer `out` [T, F] in place, and record; `x` [T, 2F or F] is what it was computed from."""
        ...


class _Current(threading.local):
    step: LayerStep | None = None


_current = _Current()


def set_step(step: LayerStep | None) -> None:
    """Make `step` the one that this thread's forward passes belong to."""
    _current.step = step


def _steer(x: torch.Tensor, out: torch.Tensor, layer: int) -> None:
    if _current.step is not None:
        _current.step.apply(layer, x.flatten(0, -2), out.view(-1, out.shape[-1]))


def _steer_fake(x: torch.Tensor, out: torch.Tensor, layer: int) -> None:
    """Change nothing: shapes are all that tracing needs."""


_library: Any = torch.library.Library("ampsweep", "FRAGMENT")  # type: ignore[no-untyped-call]
_library.define("steer_(Tensor x, Tensor(a!) out, int layer) -> ()")
_library.impl("steer_", _steer, "CPU")
_library.impl("steer_", _steer, "CUDA")
_library.impl("steer_", _steer_fake, "Meta")


class SteeredActivation(nn.Module):
    """The model's own activation, times up where there is one, then the step's interventions.

    `layer` counts the worker's layers.
    """

    def __init__(self, inner: nn.Module, layer: int) -> None:
        super().__init__()
        self.inner = inner
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return activation(gate) * up, steered: [..., F] of `x` [..., 2F]; or activation(x), [..., F] of [..., F]."""
        out: torch.Tensor = self.inner(x)
        torch.ops.ampsweep.steer_(x, out, self.layer)
        return out
