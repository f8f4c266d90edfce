"""The module that records and steers the residual stream with the CPU backend, and its custom operator.

The operator reads the current step of its thread; without one it changes nothing. The layer's index is a tensor, as in
`engine.vllm.backends.activation`.
"""

from __future__ import annotations

import torch
from torch import nn

from engine.vllm.backends.activation import current_step
from engine.vllm.backends.operators import define_operator, trace_nothing


def rows_of(hidden: torch.Tensor) -> torch.Tensor:
    """Return a view [T, H] of [..., H]; vLLM's Transformers backend has a batch dimension of 1."""
    return hidden.view(-1, hidden.shape[-1])


def _steer(hidden: torch.Tensor, residual: torch.Tensor | None, layer: torch.Tensor) -> None:
    if (step := current_step()) is not None:
        step.apply_residual(int(layer), rows_of(hidden), None if residual is None else rows_of(residual))


_library = define_operator(
    "steer_residual_(Tensor(a!) hidden, Tensor? residual, Tensor layer) -> ()", _steer, trace_nothing
)


class SteeredResidual(nn.Module):
    """Records and steers what a layer returns.

    Args:
        layer: Index of the layer among the worker's layers.
    """

    def __init__(self, layer: int) -> None:
        super().__init__()
        self.register_buffer("layer", torch.tensor(layer, device="cpu"), persistent=False)

    def forward(self, hidden: torch.Tensor, residual: torch.Tensor | None) -> None:
        """Change `hidden` [..., H] in place; the layer's output is `hidden`, or the sum of both."""
        torch.ops.ampsweep.steer_residual_(hidden, residual, self.layer)
