"""Which models add a bias to their logits, on stand-ins; `tests/engine/test_families.py` compares the answers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from engine.vllm.worker.model import lm_head


class LogitsProcessor(nn.Module):
    def forward(
        self, head: nn.Linear, hidden: torch.Tensor, embedding_bias: torch.Tensor | None = None
    ) -> torch.Tensor:
        return nn.functional.linear(hidden, head.weight, embedding_bias)


class PhiMoEForCausalLM(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lm_head = nn.Linear(3, 4)
        self.logits_processor = LogitsProcessor()

    def compute_logits(self, hidden: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.logits_processor(self.lm_head, hidden)
        return logits


class OtherForCausalLM(PhiMoEForCausalLM):
    """A model whose bias vLLM adds, or that has none."""


@pytest.mark.parametrize(("kind", "added"), [(PhiMoEForCausalLM, True), (OtherForCausalLM, False)])
def test_the_bias_is_added_where_vllm_leaves_it_out(kind: type[PhiMoEForCausalLM], added: bool) -> None:
    model, hidden = kind(), torch.randn(2, 3)
    without = model.compute_logits(hidden)
    lm_head.correct(model)
    expected = without + model.lm_head.bias if added else without
    torch.testing.assert_close(model.compute_logits(hidden), expected)
