"""Corrects the rotary embeddings of LFM2 in vLLM.

LFM2 passes queries and keys with an axis for heads. vLLM's kernel for CPUs then rotates only the first head of each. It
rotates all heads of queries and keys without that axis, which LFM2 accepts too.
"""

from __future__ import annotations

import torch
from torch import nn

_ATTENTION = ("Lfm2Attention", "Lfm2MoeAttention")


def correct(model: nn.Module) -> None:
    """Pass queries and keys to the rotary embeddings of LFM2 without an axis for heads; other models are unchanged."""
    attentions = (module for module in model.modules() if type(module).__name__ in _ATTENTION)
    for rotary in {attention.get_submodule("rotary_emb") for attention in attentions}:  # layers share one module
        rotary.register_forward_pre_hook(_flatten)


def _flatten(
    _rotary: nn.Module, arguments: tuple[torch.Tensor, torch.Tensor, torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    positions, queries, keys = arguments
    return positions, queries.flatten(1), keys.flatten(1)
