from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    MixtralConfig,
    MixtralForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    PhiConfig,
    PhiForCausalLM,
    Qwen2MoeConfig,
    Qwen2MoeForCausalLM,
)

from ampsweep.errors import UnsupportedModel
from engine.edits import resolve
from engine.hooks import Hooks
from engine.intervention import Intervention
from engine.transformers_engine import TransformersEngine
from tests.engine.neuron_sets import make_neuron_set
from tests.models import Family

SHAPE: dict[str, Any] = {
    "vocab_size": 50,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
}
MIXTURE: dict[str, Any] = {**SHAPE, "num_experts_per_tok": 2}
IDS = torch.tensor([[3, 1, 4, 1, 5]])


@pytest.mark.parametrize(
    ("model", "projection", "function"),
    [
        (lambda: PhiForCausalLM(PhiConfig(**SHAPE)), "fc1", "gelu_new"),
        (lambda: Phi3ForCausalLM(Phi3Config(**SHAPE)), "gate_up_proj", "silu"),
    ],
)
def test_other_mlps_are_hooked_at_their_activation(
    model: Callable[[], nn.Module], projection: str, function: str
) -> None:
    made = model().eval()
    hooks = Hooks(made)
    assert (hooks.layers, hooks.width) == (2, 24)
    seen: dict[int, torch.Tensor] = {}
    fed: dict[int, torch.Tensor] = {}
    layers: Any = made.model.layers  # type: ignore[union-attr]
    for at, layer in enumerate(layers):
        getattr(layer.mlp, projection).register_forward_hook(lambda _m, _i, out, at=at: fed.__setitem__(at, out[0]))
    with torch.inference_mode(), hooks.watch(seen.__setitem__):
        made(IDS)
    for at in range(2):
        gate = fed[at][:, :24]
        expected = nn.functional.silu(gate) if function == "silu" else nn.functional.gelu(gate, approximate="tanh")
        torch.testing.assert_close(seen[at], expected)


def test_edits_end_with_their_block(model_folder: Callable[[Family], Path]) -> None:
    engine = TransformersEngine(model_folder("qwen2"))
    model = engine._model
    raw = {"languages": ["fr"], "op": "scale", "factor": 50}
    edits = resolve(Intervention.from_dict(raw), make_neuron_set({"fr": [(0, 1), (1, 5)]}, width=96))
    everywhere = torch.ones(5, dtype=torch.bool)
    with torch.inference_mode():
        before = model.model(IDS).logits
        with model.hooks.steer(edits, everywhere):
            during = model.model(IDS).logits
        assert torch.equal(model.model(IDS).logits, before)
        assert not torch.equal(during, before)
        with pytest.raises(RuntimeError, match="breaks off"), model.hooks.steer(edits, everywhere):
            raise RuntimeError("breaks off")
        assert torch.equal(model.model(IDS).logits, before)


@pytest.mark.parametrize(
    ("model", "name"),
    [
        (lambda: MixtralForCausalLM(MixtralConfig(**MIXTURE, num_local_experts=2)), "MixtralForCausalLM"),
        (
            lambda: Qwen2MoeForCausalLM(
                Qwen2MoeConfig(**MIXTURE, num_experts=2, moe_intermediate_size=8, mlp_only_layers=[0])
            ),
            "Qwen2MoeForCausalLM cannot be steered: layer 1",
        ),
        (lambda: GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=50)), "GPT2LMHeadModel"),
        (lambda: nn.Linear(2, 2), "Linear"),
    ],
)
def test_a_model_that_cannot_be_steered_is_refused_by_its_class(model: Callable[[], nn.Module], name: str) -> None:
    with pytest.raises(UnsupportedModel, match=name):
        Hooks(model())


def test_an_mlp_that_passes_by_the_hook_is_refused(
    model_folder: Callable[[Family], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def forward(self: Any, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.down_proj(nn.functional.silu(self.gate_proj(x)) * self.up_proj(x))
        return out

    monkeypatch.setattr("transformers.models.qwen2.modeling_qwen2.Qwen2MLP.forward", forward)
    with pytest.raises(UnsupportedModel, match="Qwen2ForCausalLM"):
        TransformersEngine(model_folder("qwen2"))
