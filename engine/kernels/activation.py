"""The activation functions that an MLP may have, by name, and what its activation module computes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch.nn import functional

from engine.kernels.xielu import xielu

ActivationName = Literal["silu", "gelu", "gelu_tanh", "quick_gelu", "relu", "relu2", "xielu"]
"""SiLU, GELU with the error function, GELU with its tanh approximation, GELU with its sigmoid approximation, ReLU, the
square of ReLU, and xIELU."""


@dataclass(frozen=True, kw_only=True)
class MlpForm:
    """What an MLP's activation module computes.

    A gated one takes gate and up side by side, [T, 2F], and returns activation(gate) * up. Any other takes [T, F] and
    returns its activation.

    Attributes:
        activation: The activation function. In a gated MLP, its value must be above 0 exactly where its input is; xIELU
            is also positive for inputs far below 0.
        gated: Whether the module multiplies by up.
        constants: Constants of the layer's function: alpha_p, alpha_n and beta for xIELU, none for the others.
    """

    activation: ActivationName
    gated: bool
    constants: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Check that the constants are those of the function, and that it may have a gate if there is one."""
        assert len(self.constants) == (3 if self.activation == "xielu" else 0)
        assert not (self.gated and self.activation == "xielu")


def activate(name: ActivationName, gate: torch.Tensor, constants: Sequence[float] = ()) -> torch.Tensor:
    """Return the activation of `gate`, of the same shape and dtype; `constants` are those of `MlpForm`."""
    match name:
        case "silu":
            return functional.silu(gate)
        case "gelu":
            return functional.gelu(gate)
        case "gelu_tanh":
            return functional.gelu(gate, approximate="tanh")
        case "quick_gelu":
            return gate * torch.sigmoid(1.702 * gate)
        case "relu":
            return functional.relu(gate)
        case "relu2":
            return functional.relu(gate).square()
        case "xielu":
            return xielu(gate, constants)
