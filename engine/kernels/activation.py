"""The activation functions that an MLP may have, by name, and what its activation module computes."""

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

    A gated one takes gate and up side by side, [T, 2F], and returns activation(gate) * up. Any other takes [T, F] and
    returns its activation.
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
