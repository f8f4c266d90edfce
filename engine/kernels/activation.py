"""The activation functions that an MLP may have, by name."""

from __future__ import annotations

from typing import Literal

import torch
from torch.nn import functional

ActivationName = Literal["silu", "gelu", "gelu_tanh"]
"""SiLU, GELU with the error function, GELU with its tanh approximation."""


def activate(name: ActivationName, gate: torch.Tensor) -> torch.Tensor:
    """Return the activation of `gate`, of the same shape and dtype."""
    if name == "silu":
        return functional.silu(gate)
    return functional.gelu(gate, approximate="tanh" if name == "gelu_tanh" else "none")
