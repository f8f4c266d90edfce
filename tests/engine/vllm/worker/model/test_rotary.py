"""Whose rotary embeddings are corrected, on stand-ins that have the names of vLLM's classes and attributes.

`tests/engine/test_families.py` compares the answers of the models.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from engine.vllm.worker.model import rotary


class Rotary(nn.Module):
    """A rotary embedding as vLLM dispatches it: `forward` calls `_forward_method`."""

    def __init__(self, *, on_cpu: bool) -> None:
        super().__init__()
        self._forward_method = self.forward_cpu if on_cpu else self.forward_cuda

    def forward(self, *inputs: Tensor) -> tuple[str, tuple[int, ...]]:
        return self._forward_method(*inputs)

    def forward_native(self, _positions: Tensor, queries: Tensor, _keys: Tensor) -> tuple[str, tuple[int, ...]]:
        return "native", tuple(queries.shape)

    def forward_cpu(self, _positions: Tensor, queries: Tensor, _keys: Tensor) -> tuple[str, tuple[int, ...]]:
        return "cpu", tuple(queries.shape)

    def forward_cuda(self, _positions: Tensor, queries: Tensor, _keys: Tensor) -> tuple[str, tuple[int, ...]]:
        return "cuda", tuple(queries.shape)


def _model(attention: str, rotary_emb: nn.Module | None) -> nn.Module:
    """Return a model of two layers whose attention modules have a class of this name, and share their embeddings."""
    layers = [type(attention, (nn.Module,), {})() for _ in range(2)]
    for layer in layers:
        layer.rotary_emb = rotary_emb
    return nn.ModuleList(layers)


@pytest.mark.parametrize(
    ("attention", "on_cpu", "expected"),
    [
        ("Lfm2Attention", True, ("cpu", (5, 6))),
        ("Lfm2MoeAttention", False, ("cuda", (5, 6))),
        ("MultiHeadLatentAttentionWrapper", True, ("native", (5, 2, 3))),
        ("MultiHeadLatentAttentionWrapper", False, ("cuda", (5, 2, 3))),
        ("LlamaAttention", True, ("cpu", (5, 2, 3))),
    ],
)
def test_queries_with_an_axis_for_heads_do_not_reach_the_kernel_for_cpus(
    attention: str, on_cpu: bool, expected: tuple[str, tuple[int, ...]]
) -> None:
    embedding = Rotary(on_cpu=on_cpu)
    rotary.correct(_model(attention, embedding))
    queries: Any = torch.zeros(5, 2, 3)
    assert embedding(torch.arange(5), queries, queries) == expected


def test_attention_without_rotary_embeddings_is_left_alone() -> None:
    rotary.correct(_model("MultiHeadLatentAttentionWrapper", None))
