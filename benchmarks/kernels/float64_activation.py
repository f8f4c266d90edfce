"""The activation functions in float64, by torch's own functions: the reference that kernels are compared with."""

from __future__ import annotations

import torch
from torch.nn import functional

from engine.kernels.activation import ActivationName

XIELU = (0.7, 1.3, 0.4)
"""alpha_p, alpha_n and beta of xIELU in these comparisons."""


def activation_in_float64(x: torch.Tensor, name: ActivationName) -> torch.Tensor:
    """Return the activation of `x`, computed by torch in float64."""
    values = x.double()
    match name:
        case "silu":
            return functional.silu(values)
        case "gelu":
            return functional.gelu(values)
        case "gelu_tanh":
            return functional.gelu(values, approximate="tanh")
        case "quick_gelu":
            return functional.silu(1.702 * values) / 1.702
        case "relu":
            return functional.relu(values)
        case "relu2":
            return torch.where(values > 0, values**2, 0.0)
        case "xielu":
            alpha_p, alpha_n, beta = XIELU
            negative = torch.expm1(values.clamp(max=0)) * alpha_n - (alpha_n - beta) * values
            return torch.where(values > 0, (alpha_p * values + beta) * values, negative)
