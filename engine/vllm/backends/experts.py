"""The custom operator that computes a layer's experts one after the other, with the CPU backend.

A fused kernel multiplies by the second projection right after the activation. Here the activations of all experts are
computed first, so that the current step can record and steer them. torch.compile sees only the shape of the result.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from engine.kernels.activation import ActivationName, activate
from engine.vllm.backends.activation import current_step


@dataclass(frozen=True, kw_only=True, eq=False)
class ExpertRows:
    """The pairs of a token and an expert that the router chose, sorted by expert: R = T * k rows, one for each pair.

    Attributes:
        order: The index of each row's pair in the router's choice [T * k], int64 [R].
        tokens: The token of each row, int64 [R].
        experts: The expert of each row, int64 [R].
        groups: For each expert that has rows: the expert, its first row, and the row after its last.
        tokens_total: T.
    """

    order: torch.Tensor
    tokens: torch.Tensor
    experts: torch.Tensor
    groups: tuple[tuple[int, int, int], ...]
    tokens_total: int

    @classmethod
    def of(cls, chosen: torch.Tensor) -> ExpertRows:
        """Sort the experts that the router chose for each token, integers [T, k]."""
        experts, order = chosen.flatten().long().sort(stable=True)
        counts = experts.bincount()
        reached = counts.nonzero()[:, 0]
        ends = counts[reached].cumsum(0).tolist()
        return cls(
            order=order,
            tokens=order // chosen.shape[1],
            experts=experts,
            groups=tuple(zip(reached.tolist(), [0, *ends[:-1]], ends, strict=True)),
            tokens_total=len(chosen),
        )

    @property
    def by_token(self) -> torch.Tensor:
        """The k rows of each token, int64 [T, k]."""
        rows = torch.empty_like(self.order)
        rows[self.order] = torch.arange(len(rows), device=rows.device)
        return rows.view(self.tokens_total, -1)


def run_experts(
    x: torch.Tensor,
    w13: torch.Tensor,
    w2: torch.Tensor,
    shares: torch.Tensor,
    chosen: torch.Tensor,
    layer: int,
    activation: ActivationName,
) -> torch.Tensor:
    """Return the sum of the experts' outputs, [T, H], with the step's interventions.

    The outputs of the experts are added in float32 and rounded once.

    Args:
        x: Input of the layer, [T, H].
        w13: Gate and up projection of each expert, [E, 2F, H].
        w2: Second projection of each expert, [E, H, F].
        shares: The router's weight of each chosen expert, [T, k].
        chosen: The experts that the router chose for each token, integers [T, k].
        layer: Index of the layer among the worker's layers.
        activation: The activation function.
    """
    rows = ExpertRows.of(chosen)
    width = w2.shape[-1]
    projected = x.new_empty(len(rows.order), 2 * width)
    for expert, first, end in rows.groups:
        projected[first:end] = functional.linear(x[rows.tokens[first:end]], w13[expert])
    activated = activate(activation, projected[:, :width]) * projected[:, width:]
    if (step := current_step()) is not None:
        step.apply_experts(layer, rows, projected, activated)
    total = torch.zeros(x.shape, dtype=torch.float32, device=x.device)
    for expert, first, end in rows.groups:
        of_expert = functional.linear(activated[first:end], w2[expert]).float()
        weight = shares.flatten()[rows.order[first:end], None].float()
        total.index_add_(0, rows.tokens[first:end], of_expert * weight)
    return total.to(x.dtype)


def _shape_alone(x: torch.Tensor, *_arguments: Any) -> torch.Tensor:
    """Return a tensor of the result's shape, which is all that tracing needs."""
    return torch.empty_like(x)


_library: Any = torch.library.Library("ampsweep", "FRAGMENT")  # type: ignore[no-untyped-call]
_library.define(
    "run_experts(Tensor x, Tensor w13, Tensor w2, Tensor shares, Tensor chosen, int layer, str activation) -> Tensor"
)
_library.impl("run_experts", run_experts, "CPU")
_library.impl("run_experts", _shape_alone, "Meta")
