from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    Gemma3nForCausalLM,
    Gemma3nTextConfig,
    Gemma4ForCausalLM,
    Gemma4TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    GptOssConfig,
    GptOssForCausalLM,
    Lfm2Config,
    Lfm2ForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    NemotronHConfig,
    NemotronHForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    PhiConfig,
    PhiForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)
from transformers.activations import ACT2FN

from ampsweep.domain.intervention import Intervention
from ampsweep.domain.neurons.layer_widths import LayerWidths
from ampsweep.errors import UnsupportedModel
from benchmarks.models.families import Family
from engine.hf.engine import TransformersEngine
from engine.hf.hooks import Hooks
from engine.steering.edits import resolve
from engine.steering.mlp_sites import find_layers
from tests.engine.neuron_sets import make_neuron_set

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
NEMOTRON_H: dict[str, Any] = {
    **{name: SHAPE[name] for name in SHAPE if name != "num_hidden_layers"},
    "head_dim": 8,
    "mamba_num_heads": 2,
    "mamba_head_dim": 8,
    "n_groups": 1,
    "ssm_state_size": 4,
    "n_routed_experts": 2,
    "moe_intermediate_size": 8,
    "moe_shared_expert_intermediate_size": 8,
}
IDS = torch.tensor([[3, 1, 4, 1, 5]])


def nemotron_h(pattern: str) -> NemotronHConfig:
    """Return a config whose layers are Mamba (M), attention (*), an MLP (-) or experts (E)."""
    return NemotronHConfig(**NEMOTRON_H, hybrid_override_pattern=pattern)


@pytest.mark.parametrize(
    ("model", "projection", "function"),
    [
        (lambda: GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=2, n_head=2, n_inner=24)), "c_fc", "gelu_new"),
        (lambda: OPTForCausalLM(OPTConfig(**SHAPE, ffn_dim=24, word_embed_proj_dim=16)), "fc1", "relu"),
        (lambda: PhiForCausalLM(PhiConfig(**SHAPE)), "fc1", "gelu_new"),
        (lambda: Phi3ForCausalLM(Phi3Config(**SHAPE)), "gate_up_proj", "silu"),
    ],
)
def test_other_mlps_are_hooked_at_their_activation(
    model: Callable[[], nn.Module], projection: str, function: str
) -> None:
    hooked_model = model().eval()
    hooks = Hooks(hooked_model)
    assert hooks.widths == LayerWidths(2, 24)
    seen: dict[int, torch.Tensor] = {}
    fed: dict[int, torch.Tensor] = {}
    for index, layer in find_layers(hooked_model).items():
        first = getattr(getattr(layer, "mlp", layer), projection)
        first.register_forward_hook(lambda _m, _i, out, index=index: fed.__setitem__(index, out.view(5, -1)))
    with torch.inference_mode(), hooks.watch(seen.__setitem__):
        hooked_model(IDS)
    for index in range(2):
        gate = fed[index][:, :24]
        torch.testing.assert_close(seen[index], ACT2FN[function](gate))


def test_edits_apply_only_within_their_block(model_folder: Callable[[Family], Path]) -> None:
    engine = TransformersEngine(model_folder("qwen2"))
    model = engine._model
    raw = {"languages": ["fr"], "op": "scale", "factor": 50}
    edits = resolve(Intervention.from_dict(raw), make_neuron_set({"fr": [(0, 1), (1, 5)]}, width=96))
    everywhere = torch.ones(5)
    with torch.inference_mode():
        before = model.model(IDS).logits
        with model.hooks.steer(edits, everywhere):
            during = model.model(IDS).logits
        assert torch.equal(model.model(IDS).logits, before)
        assert not torch.equal(during, before)
        with pytest.raises(RuntimeError, match="breaks off"), model.hooks.steer(edits, everywhere):
            raise RuntimeError("breaks off")
        assert torch.equal(model.model(IDS).logits, before)


def test_with_factor_0_an_infinite_activation_is_not_read() -> None:
    model = OPTForCausalLM(OPTConfig(**SHAPE, ffn_dim=24, word_embed_proj_dim=16)).eval()
    hooks = Hooks(model)
    raw = {"languages": ["fr"], "op": "scale", "factor": 0}
    edits = resolve(Intervention.from_dict(raw), make_neuron_set({"fr": [(0, 1)]}, width=24))
    everywhere = torch.ones(5)
    with torch.inference_mode():
        with hooks.steer(edits, everywhere):
            expected = model(IDS).logits
        model.get_parameter("model.decoder.layers.0.fc1.bias")[1] = torch.inf
        assert not model(IDS).logits.isfinite().all()
        with hooks.steer(edits, everywhere):
            assert torch.equal(model(IDS).logits, expected)


def test_a_neuron_that_takes_no_statistic_is_not_changed_by_an_infinite_one() -> None:
    model = OPTForCausalLM(OPTConfig(**SHAPE, ffn_dim=24, word_embed_proj_dim=16)).eval()
    hooks = Hooks(model)
    other = {"op": "scale", "factor": 2.0}
    raw = {"languages": ["fr"], "op": "add", "factor": 1.0, "statistic": "max", "non_target": other}
    edits = resolve(Intervention.from_dict(raw), make_neuron_set({"fr": [(0, 1)], "en": [(0, 2)]}, width=24))
    read: list[torch.Tensor] = []
    second = model.get_submodule("model.decoder.layers.0.fc2")
    second.register_forward_pre_hook(lambda _module, inputs: read.append(inputs[0].reshape(5, 24)))
    with torch.inference_mode():
        model.get_parameter("model.decoder.layers.0.fc1.bias")[5] = torch.inf
        model.get_parameter("model.decoder.layers.0.fc1.bias")[2] = 1.0
        model(IDS)
        with hooks.steer(edits, torch.ones(5)):
            model(IDS)
    plain, steered = read
    assert steered[:, 1].isinf().all()
    assert torch.equal(steered[:, 2], 2 * plain[:, 2])
    assert plain[:, 2].any()


@pytest.mark.parametrize(
    ("model", "name"),
    [
        (
            lambda: MambaForCausalLM(MambaConfig(hidden_size=16, num_hidden_layers=2, vocab_size=50, state_size=2)),
            "MambaForCausalLM cannot be steered: layer 0 has a MambaMixer, not an MLP",
        ),
        (
            lambda: NemotronHForCausalLM(nemotron_h("M*")),
            "NemotronHForCausalLM cannot be steered: none of its layers has an MLP",
        ),
        (
            lambda: T5ForConditionalGeneration(T5Config(d_model=16, d_ff=24, num_layers=2, num_heads=2, vocab_size=50)),
            "T5ForConditionalGeneration cannot be steered: it has no list of layers",
        ),
        (
            lambda: BartForConditionalGeneration(BartConfig(d_model=16, vocab_size=50, encoder_layers=2)),
            r"BartForConditionalGeneration cannot be steered: it has several lists of layers \(model.decoder.layers, ",
        ),
        (
            lambda: Gemma3nForCausalLM(
                Gemma3nTextConfig(**SHAPE, head_dim=8, vocab_size_per_layer_input=50, num_kv_shared_layers=0)
            ),
            r"Gemma3nForCausalLM cannot be steered: layer 0 passes on several residual streams \(AltUp\)",
        ),
        (lambda: nn.Linear(2, 2), "Linear cannot be steered: it has no list of layers"),
    ],
)
def test_a_model_that_cannot_be_steered_is_rejected_with_its_class(model: Callable[[], nn.Module], name: str) -> None:
    with pytest.raises(UnsupportedModel, match=name):
        Hooks(model())


def test_an_mlp_that_bypasses_its_hook_is_rejected(
    model_folder: Callable[[Family], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def forward(self: Any, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.down_proj(nn.functional.silu(self.gate_proj(x)) * self.up_proj(x))
        return out

    monkeypatch.setattr("transformers.models.qwen2.modeling_qwen2.Qwen2MLP.forward", forward)
    with pytest.raises(UnsupportedModel, match="Qwen2ForCausalLM"):
        TransformersEngine(model_folder("qwen2"))


def test_layers_without_an_mlp_have_no_neurons_and_a_residual_stream() -> None:
    model = NemotronHForCausalLM(nemotron_h("M-*-")).eval()
    hooks = Hooks(model)
    assert hooks.widths == LayerWidths(4, (0, 24, 0, 24))
    neurons = make_neuron_set({"fr": [(1, 3), (3, 23)]}, layers=4, width=(0, 24, 0, 24))
    edits = resolve(Intervention.from_dict({"languages": ["fr"], "op": "set", "factor": 5.0}), neurons)
    read: dict[int, torch.Tensor] = {}
    by_index: Any = find_layers(model)
    for index in (1, 3):
        by_index[index].mixer.down_proj.register_forward_pre_hook(
            lambda _module, args, index=index: read.__setitem__(index, args[0][0])
        )
    activations: dict[int, torch.Tensor] = {}
    residuals: dict[int, torch.Tensor] = {}
    with torch.inference_mode():
        with hooks.watch(activations.__setitem__, residuals.__setitem__):
            model(IDS)
        for index, activation in activations.items():
            torch.testing.assert_close(activation, read[index])
        assert (sorted(activations), sorted(residuals)) == ([1, 3], [0, 1, 2, 3])
        with hooks.steer(edits, torch.ones(5)):
            model(IDS)
    torch.testing.assert_close(read[1][:, 3], torch.full((5,), 5.0))
    torch.testing.assert_close(read[3][:, 23], torch.full((5,), 5.0))
    torch.testing.assert_close(read[1][:, :3], activations[1][:, :3])


def test_an_activation_that_is_called_as_a_function_becomes_a_module_that_computes_the_same() -> None:
    config = Lfm2Config(**SHAPE, layer_types=["conv", "full_attention"], block_auto_adjust_ff_dim=False)
    model = Lfm2ForCausalLM(config).eval()
    seen: dict[int, torch.Tensor] = {}
    fed: dict[int, torch.Tensor] = {}
    by_index: Any = find_layers(model)
    for index, layer in by_index.items():
        layer.feed_forward.w1.register_forward_hook(lambda _m, _i, out, index=index: fed.__setitem__(index, out[0]))
    with torch.inference_mode():
        expected = model(IDS).logits
        hooks = Hooks(model)
        assert hooks.widths == LayerWidths(2, 24)
        with hooks.watch(seen.__setitem__):
            assert torch.equal(model(IDS).logits, expected)
    for index in range(2):
        torch.testing.assert_close(seen[index], nn.functional.silu(fed[index]))


def test_the_experts_of_gpt_oss_compute_the_same_with_a_module() -> None:
    config = GptOssConfig(**MIXTURE, head_dim=8, num_local_experts=3, experts_implementation="eager")
    model = GptOssForCausalLM(config).eval()
    torch.manual_seed(0)
    for weights in model.parameters():
        nn.init.normal_(weights, std=3.0)  # large enough to be clamped
    by_index: Any = find_layers(model)
    seen: dict[int, torch.Tensor] = {}
    with torch.inference_mode():
        expected = model(IDS).logits
        hooks = Hooks(model)
        assert hooks.widths == LayerWidths(2, 72)
        with hooks.watch(seen.__setitem__):
            assert torch.equal(model(IDS).logits, expected)
        assert by_index[0].mlp.experts.experts.limit * 0.99 < seen[0].nan_to_num().max() <= 7.0


def test_layers_of_different_widths_are_hooked_and_steered_alone() -> None:
    config = Gemma4TextConfig(
        **SHAPE,
        head_dim=8,
        global_head_dim=8,
        layer_types=["full_attention"] * 2,
        num_kv_shared_layers=1,
        use_double_wide_mlp=True,
        hidden_size_per_layer_input=0,
    )
    model = Gemma4ForCausalLM(config).eval()
    hooks = Hooks(model)
    assert hooks.widths == LayerWidths(2, (24, 48))
    neurons = make_neuron_set({"fr": [(0, 23), (1, 47)]}, layers=2, width=(24, 48))
    edits = resolve(Intervention.from_dict({"languages": ["fr"], "op": "set", "factor": 5.0}), neurons)
    seen: dict[int, torch.Tensor] = {}
    by_index: Any = find_layers(model)
    for index, layer in by_index.items():
        layer.mlp.down_proj.register_forward_pre_hook(
            lambda module, args, index=index: seen.__setitem__(index, args[0][0] / module.up)
        )
        layer.mlp.up_proj.register_forward_hook(
            lambda _m, _i, out, layer=layer: setattr(layer.mlp.down_proj, "up", out[0])
        )
    with torch.inference_mode(), hooks.steer(edits, torch.ones(5)):
        model(IDS)
    assert (seen[0].shape[-1], seen[1].shape[-1]) == (24, 48)
    torch.testing.assert_close(seen[0][:, 23], torch.full((5,), 5.0))
    torch.testing.assert_close(seen[1][:, 47], torch.full((5,), 5.0))
