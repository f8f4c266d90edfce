"""The custom operator that computes a layer's experts one after the other, with the CPU backend.

A fused kernel multiplies by the second projection right after the activation. Here the activations of all experts are
computed first, so that the current step can record and steer them. torch.compile sees only the shape of the result. The
layer's number is a tensor, as in `engine.vllm.backends.activation`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from engine.kernels.activation import ActivationName, activate
from engine.vllm.backends.activation import current_step
from engine.vllm.backends.operators import define_operator, trace_like_input


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
    layer: torch.Tensor,
    activation: ActivationName,
    *,
    b13: torch.Tensor | None = None,
    b2: torch.Tensor | None = None,
    limit: float | None = None,
    on_input: bool = False,
) -> torch.Tensor:
    """Return the sum of the experts' outputs, [T, H], with the step's interventions.

    The outputs of the experts are added in float32 and rounded once.

    Args:
        x: Input of the layer, [T, H].
        w13: Gate and up projection of each expert, [E, 2F, H], or its only first projection, [E, F, H].
        w2: Second projection of each expert, [E, H, F].
        shares: The router's weight of each chosen expert, [T, k].
        chosen: The experts that the router chose for each token, integers [T, k].
        layer: Number of the experts' row in the worker's shard, an integer [].
        activation: The activation function.
        b13: Biases of the first projections, [E, 2F] or [E, F].
        b2: Biases of the second projections, [E, H].
        limit: If it is given, gate and up alternate in `w13` and are clamped, and the activation is multiplied by
            up + 1, as in gpt-oss.
        on_input: Whether `shares` multiply the inputs of the experts and not their outputs, as in Llama 4.
    """
    rows = ExpertRows.of(chosen)
    width = w2.shape[-1]
    projected = x.new_empty(len(rows.order), w13.shape[1])
    weights = shares.flatten()[rows.order, None]
    for expert, first, end in rows.groups:
        inputs = x[rows.tokens[first:end]]
        if on_input:
            inputs = inputs * weights[first:end].to(x.dtype)
        projected[first:end] = functional.linear(inputs, w13[expert], _of_expert(b13, expert))
    projected = arrange(projected, limit)
    activated = activate(activation, projected[:, :width])
    if projected.shape[1] > width:
        activated = activated * projected[:, width:]
    if (step := current_step()) is not None:
        step.apply_experts(int(layer), rows, projected, activated)
    total = torch.zeros(x.shape, dtype=torch.float32, device=x.device)
    for expert, first, end in rows.groups:
        of_expert = functional.linear(activated[first:end], w2[expert], _of_expert(b2, expert)).float()
        weighted = of_expert if on_input else of_expert * weights[first:end].float()
        total.index_add_(0, rows.tokens[first:end], weighted)
    return total.to(x.dtype)


def arrange(projected: torch.Tensor, limit: float | None) -> torch.Tensor:
    """Return first projections [R, 2F or F] with gate and up side by side.

    With a `limit`, as in gpt-oss, they alternate in `projected`, both are clamped, and 1 is added to up.
    """
    if limit is None:
        return projected
    gate, up = projected[:, ::2], projected[:, 1::2]
    return torch.cat([gate.clamp(max=limit), up.clamp(-limit, limit) + 1], dim=1)


def _of_expert(biases: torch.Tensor | None, expert: int) -> torch.Tensor | None:
    """Return the biases of one expert, if there are any."""
    return None if biases is None else biases[expert]


_library = define_operator(
    "run_experts(Tensor x, Tensor w13, Tensor w2, Tensor shares, Tensor chosen, Tensor layer, str activation, *, "
    "Tensor? b13=None, Tensor? b2=None, float? limit=None, bool on_input=False) -> Tensor",
    run_experts,
    trace_like_input,
)


class SequentialExperts(nn.Module):
    """The experts of one layer, with the step's interventions.

    Args:
        layer: Number of the layer's row in the worker's shard.
        activation: The activation function of the experts.
    """

    def __init__(self, layer: int, activation: ActivationName) -> None:
        super().__init__()
        self.register_buffer("layer", torch.tensor(layer, device="cpu"), persistent=False)
        self._activation = activation

    def forward(
        self,
        x: torch.Tensor,
        w13: torch.Tensor,
        w2: torch.Tensor,
        shares: torch.Tensor,
        chosen: torch.Tensor,
        **optional: Any,
    ) -> torch.Tensor:
        """Return the sum of the experts' outputs, [T, H]; see `run_experts`."""
        output: torch.Tensor = torch.ops.ampsweep.run_experts(
            x, w13, w2, shares, chosen, self.layer, self._activation, **optional
        )
        return output
