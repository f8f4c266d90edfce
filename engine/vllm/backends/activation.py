"""The module that replaces an MLP's activation with the CPU backend, and its custom operator.

The operator reads the current step of its thread; without one it changes nothing. torch.compile sees only that `out`
may change. The layer's index is a tensor, an input of the compiled graph, so that equal layers share one graph.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Protocol

import torch
from torch import nn

from engine.vllm.backends.operators import define_operator, trace_nothing

if TYPE_CHECKING:
    from engine.vllm.backends.experts import ExpertRows


class LayerStep(Protocol):
    """What a step does with one layer's activations, and with the residual stream at its output."""

    def apply(self, layer: int, x: torch.Tensor, out: torch.Tensor) -> None:
        """Steer `out` [T, F] in place and record; `x` [T, 2F or F] is the input that it was computed from."""
        ...

    def apply_experts(self, layer: int, rows: ExpertRows, x: torch.Tensor, out: torch.Tensor) -> None:
        """Steer `out` [R, F], the rows of all experts of a layer, in place and record; `x` is [R, 2F]."""
        ...

    def apply_residual(self, layer: int, hidden: torch.Tensor, residual: torch.Tensor | None) -> None:
        """Record `hidden` [T, H], plus `residual` if there is one, and steer `hidden` in place."""
        ...


class _Current(threading.local):
    step: LayerStep | None = None


_current = _Current()


def set_step(step: LayerStep | None) -> None:
    """Set the step that this thread's next forward passes belong to."""
    _current.step = step


def current_step() -> LayerStep | None:
    """Return the step that this thread's forward pass belongs to."""
    return _current.step


def _steer(x: torch.Tensor, out: torch.Tensor, layer: torch.Tensor) -> None:
    if _current.step is not None:
        _current.step.apply(int(layer), x.flatten(0, -2), out.view(-1, out.shape[-1]))


_library = define_operator("steer_(Tensor x, Tensor(a!) out, Tensor layer) -> ()", _steer, trace_nothing)


class SteeredActivation(nn.Module):
    """The model's own activation module, followed by the step's interventions.

    Args:
        inner: The model's activation, which includes the product with up in a gated MLP.
        layer: Index of the layer among the worker's layers.
    """

    def __init__(self, inner: nn.Module, layer: int) -> None:
        super().__init__()
        self.inner = inner
        self.register_buffer("layer", torch.tensor(layer, device="cpu"), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the steered activations [..., F].

        `x` is gate and up side by side, [..., 2F], or [..., F] in an MLP without a gate.
        """
        out: torch.Tensor = self.inner(x)
        torch.ops.ampsweep.steer_(x, out, self.layer)
        return out
