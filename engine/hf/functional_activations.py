"""Gives MLPs and experts of Transformers that compute their activation in another way the form of most others.

The results are the same bit for bit.
"""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn


def add_activation_modules(model: nn.Module) -> None:
    """Let the MLPs of LFM2 and the experts of gpt-oss call a module, `act_fn`; other models are unchanged.

    All experts get an `intermediate_dim`, the number of neurons of one expert.
    """
    for module in model.modules():
        mlp: Any = module
        if type(module).__name__ in ("Lfm2MLP", "Lfm2MoeMLP"):
            mlp.act_fn = nn.SiLU()
            mlp.forward = MethodType(_gated, mlp)
        elif type(module).__name__ == "Lfm2MoeExperts":
            mlp.act_fn = nn.SiLU()
        elif type(module).__name__ == "Llama4TextExperts":
            mlp.intermediate_dim = mlp.expert_dim
        elif type(module).__name__ == "GptOssExperts":
            mlp.act_fn = _Swish(mlp.alpha)
            mlp.intermediate_dim = mlp.intermediate_size
            mlp._apply_gate = MethodType(_clamped, mlp)  # noqa: SLF001  # that is where they compute it


class _Swish(nn.Module):
    """x * sigmoid(alpha * x)."""

    def __init__(self, alpha: float) -> None:
        super().__init__()
        self.alpha = alpha

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(x * self.alpha)


def _gated(mlp: Any, x: Tensor) -> Tensor:
    output: Tensor = mlp.w2(mlp.act_fn(mlp.w1(x)) * mlp.w3(x))
    return output


def _clamped(experts: Any, gate_up: Tensor) -> Tensor:
    """Return what the second projection of an expert of gpt-oss reads; gate and up alternate in `gate_up`."""
    gate = gate_up[..., ::2].clamp(max=experts.limit)
    up = gate_up[..., 1::2].clamp(-experts.limit, experts.limit)
    output: Tensor = (up + 1) * experts.act_fn(gate)
    return output
