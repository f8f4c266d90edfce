"""The order of the axes in weights of experts that a checkpoint joins in one tensor."""

from __future__ import annotations

import pytest
import torch

from engine.vllm.worker.model.language_model import oriented

HIDDEN = 64


@pytest.mark.parametrize(("weight", "shape"), [("gate_up_proj", (6, 80, HIDDEN)), ("down_proj", (6, HIDDEN, 40))])
def test_experts_have_their_outputs_before_their_inputs_in_either_order_of_a_checkpoint(
    weight: str, shape: tuple[int, ...]
) -> None:
    name, values = f"model.language_model.layers.0.mlp.experts.{weight}", torch.rand(shape)
    for stored in (values, values.transpose(1, 2).contiguous()):
        assert torch.equal(oriented(name, stored, HIDDEN), values)


def test_other_weights_are_unchanged() -> None:
    values = torch.rand(HIDDEN, 96)
    assert oriented("model.language_model.layers.0.mlp.down_proj.weight", values, HIDDEN) is values
