"""Corrects rotary embeddings that vLLM's kernel for CPUs applies to the wrong numbers.

LFM2 and multi-head latent attention (DeepSeek, GLM 4.7 Flash) pass queries and keys with an axis for heads. The kernel
reads their last axis as all heads of a token, so it rotates only the first head, and in latent attention it takes the
heads of the first tokens for those of all tokens. It is right without that axis, which LFM2 accepts too. In latent
attention queries are a part of a larger tensor, so PyTorch rotates them instead.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

_FLATTENED = ("Lfm2Attention", "Lfm2MoeAttention")
_LATENT = ("MultiHeadLatentAttentionWrapper", "DeepseekV2Attention", "Glm4MoeLiteAttention")


def correct(model: nn.Module) -> None:
    """Correct the rotary embeddings of the model's attention modules; those of other models are unchanged."""
    for rotary in _rotary_embeddings(model, _FLATTENED):
        rotary.register_forward_pre_hook(_flatten)
    for rotary in _rotary_embeddings(model, _LATENT):
        kernel: Any = getattr(rotary, "_forward_method", None)
        if getattr(kernel, "__name__", None) == "forward_cpu":
            rotary._forward_method = rotary.forward_native  # noqa: SLF001  # what vLLM's `CustomOp` calls


def _rotary_embeddings(model: nn.Module, attentions: tuple[str, ...]) -> set[Any]:
    """Return the rotary embeddings of the attention modules of these classes; layers share one."""
    modules = (module for module in model.modules() if type(module).__name__ in attentions)
    rotaries = (getattr(module, "rotary_emb", None) for module in modules)
    return {rotary for rotary in rotaries if rotary is not None}


def _flatten(
    _rotary: nn.Module, arguments: tuple[torch.Tensor, torch.Tensor, torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    positions, queries, keys = arguments
    return positions, queries.flatten(1), keys.flatten(1)
