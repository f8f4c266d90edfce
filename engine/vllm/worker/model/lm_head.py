"""Adds the bias of the last projection where vLLM loads it but leaves it out: in Phi-3.5-MoE."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

_WITHOUT_BIAS = frozenset({"PhiMoEForCausalLM"})


def correct(model: nn.Module) -> None:
    """Let such a model add the bias to its logits; others are unchanged."""
    if type(model).__name__ in _WITHOUT_BIAS:
        processor: Any = model.logits_processor
        processor.register_forward_pre_hook(_with_bias)


def _with_bias(_processor: nn.Module, arguments: tuple[Any, torch.Tensor]) -> tuple[Any, torch.Tensor, torch.Tensor]:
    head, hidden_states = arguments
    return head, hidden_states, head.bias
