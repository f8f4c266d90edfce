"""Gives an activation module to MLPs of Transformers that call their activation as a function."""

from __future__ import annotations

from types import MethodType
from typing import Any

from torch import Tensor, nn

_LFM2 = "Lfm2MLP"


def add_activation_modules(model: nn.Module) -> None:
    """Let the MLPs of LFM2 call a module, `act_fn`, in place of `torch.nn.functional.silu`; other models are unchanged.

    The results are the same bit for bit.
    """
    for module in model.modules():
        if type(module).__name__ == _LFM2:
            mlp: Any = module
            mlp.act_fn = nn.SiLU()
            mlp.forward = MethodType(_gated, mlp)


def _gated(mlp: Any, x: Tensor) -> Tensor:
    output: Tensor = mlp.w2(mlp.act_fn(mlp.w1(x)) * mlp.w3(x))
    return output
