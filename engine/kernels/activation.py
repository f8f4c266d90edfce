"""The activation functions that an MLP may have, by name, and what its activation module makes of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch.nn import functional

ActivationName = Literal["silu", "gelu", "gelu_tanh", "relu"]
"""SiLU, GELU with the error function, GELU with its tanh approximation, ReLU."""


@dataclass(frozen=True, kw_only=True)
class MlpForm:
    """What an MLP's activation module computes.

    Gated, it takes gate and up side by side, [T, 2F], and gives activation(gate) * up; otherwise it takes [T, F] and
    gives its activation.
    """

    activation: ActivationName
    gated: bool


def activate(name: ActivationName, gate: torch.Tensor) -> torch.Tensor:
    """Return the activation of `gate`, of the same shape and dtype."""
    if name == "silu":
        return functional.silu(gate)
    if name == "relu":
        return functional.relu(gate)
    return functional.gelu(gate, approximate="tanh" if name == "gelu_tanh" else "none")
