"""The activation function xIELU (Huang and Schlag 2025, arXiv:2411.13010), whose constants each layer has learned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import torch
from torch import nn
from torch.nn import functional


class XieluConstants(NamedTuple):
    """The constants of one layer, of which alpha_p and alpha_n are learned.

    The function is not monotonic: it is negative just below 0, and grows without bound where its input falls further.
    """

    alpha_p: float
    alpha_n: float
    beta: float


def xielu(x: torch.Tensor, constants: Sequence[float] | torch.Tensor) -> torch.Tensor:
    """Return alpha_p x^2 + beta x where x is above 0, alpha_n (e^x - 1 - x) + beta x elsewhere, of the dtype of `x`.

    16 bits are rounded once, at the end. vLLM and Transformers replace e^x - 1 by a constant for -1e-6 < x <= 0, which
    changes the result by at most alpha_n * 1e-6.
    """
    alpha_p, alpha_n, beta = constants
    values = x if x.dtype == torch.float64 else x.float()
    negative = values.clamp(max=0.0)
    curve = torch.where(values > 0, alpha_p * values.square(), alpha_n * (torch.expm1(negative) - negative))
    return (curve + beta * values).to(x.dtype)


class Xielu(nn.Module):
    """xIELU with constants that are not rounded to the dtype of a model.

    The function computes with a tensor of them, an input of a compiled graph; numbers would be constants of the graph,
    and layers could not share one.
    """

    values: torch.Tensor

    def __init__(self, constants: XieluConstants) -> None:
        super().__init__()
        self.constants = constants
        self.register_buffer("values", torch.tensor(constants, dtype=torch.float64), persistent=False)

    @classmethod
    def of(cls, activation: Any) -> Self:
        """Return the function of a loaded `XIELU` of vLLM or `XIELUActivation` of Transformers.

        Both store the inverse softplus of alpha_p and of alpha_n - beta.
        """
        stored = [activation.alpha_p, activation.alpha_n, activation.beta]
        alpha_p, above_beta, beta = (tensor.detach().double().cpu().flatten() for tensor in stored)
        alpha_n = beta + functional.softplus(above_beta)
        return cls(XieluConstants(functional.softplus(alpha_p).item(), alpha_n.item(), beta.item()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the activation of `x`, of the same shape and dtype."""
        return xielu(x, self.values)
