"""The hooks on experts, compared with a computation by hand from what goes into each layer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import (
    MixtralConfig,
    MixtralForCausalLM,
    OlmoeConfig,
    OlmoeForCausalLM,
    Qwen2MoeConfig,
    Qwen2MoeForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)

from ampsweep.domain.intervention import Intervention
from ampsweep.domain.neurons.layer_widths import LayerWidths
from ampsweep.folders.corpus import Sentence
from benchmarks.models.families import Family
from engine.hf.engine import TransformersEngine
from engine.hf.hooks import Hooks
from engine.identify.lape import MIN_REACHED, select_lape
from engine.identify.record_request import RecordRequest
from engine.steering.edits import resolve
from engine.steering.mlp_sites import find_layers
from tests.engine.neuron_sets import make_neuron_set

SHAPE: dict[str, Any] = {
    "vocab_size": 50,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "num_experts_per_tok": 2,
    "pad_token_id": 0,
    "experts_implementation": "eager",
}
EXPERTS, WIDTH = 5, 12
IDS = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6]])
ALL = torch.ones(IDS.shape[1])
MODELS: list[Callable[[], Any]] = [
    lambda: MixtralForCausalLM(MixtralConfig(**SHAPE, intermediate_size=WIDTH, num_local_experts=EXPERTS)),
    lambda: OlmoeForCausalLM(OlmoeConfig(**SHAPE, intermediate_size=WIDTH, num_experts=EXPERTS)),
    lambda: Qwen3MoeForCausalLM(
        Qwen3MoeConfig(**SHAPE, head_dim=8, moe_intermediate_size=WIDTH, num_experts=EXPERTS, norm_topk_prob=True)
    ),
]
Edit = Callable[[int, Tensor], Tensor]


def unchanged(_expert: int, activation: Tensor) -> Tensor:
    return activation


@torch.no_grad()
def by_hand(block: Any, experts: Any, x: Tensor, edit: Edit = unchanged) -> tuple[Tensor, Tensor]:
    """Return the activations [T, E * F] and the output [T, H] of a block of experts, token by token.

    `edit` returns what takes the place of the activations [F] of one token in one expert.
    """
    count, width = experts.num_experts, experts.intermediate_dim
    activations = torch.full((len(x), count * width), torch.nan)
    output = torch.zeros_like(x)
    for token, state in enumerate(x):
        share = torch.softmax(block.gate.weight @ state, dim=0)
        chosen = share.argsort(descending=True)[: block.gate.top_k].tolist()
        total = share[chosen].sum() if getattr(block.gate, "norm_topk_prob", True) else 1.0
        for expert in chosen:
            gate, up = (experts.gate_up_proj[expert] @ state).split(width)
            activation = gate * torch.sigmoid(gate)
            activations[token, expert * width : (expert + 1) * width] = activation
            output[token] += share[expert] / total * (experts.down_proj[expert] @ (edit(expert, activation) * up))
    return activations, output


def hooked(model: Any) -> tuple[Hooks, dict[int, Tensor], dict[int, Tensor]]:
    """Return a model's hooks, and what goes into and comes out of the blocks of experts in the last forward pass."""
    torch.manual_seed(1)
    for weights in model.parameters():
        nn.init.normal_(weights, std=0.5)
    model.eval()
    inputs: dict[int, Tensor] = {}
    outputs: dict[int, Tensor] = {}
    layers: Any = find_layers(model)
    for index, layer in layers.items():
        layer.mlp.register_forward_pre_hook(lambda _m, args, index=index: inputs.__setitem__(index, args[0][0]))
        layer.mlp.register_forward_hook(lambda _m, _i, out, index=index: outputs.__setitem__(index, out[0]))
    return Hooks(model), inputs, outputs


@pytest.mark.parametrize("make", MODELS, ids=["mixtral", "olmoe", "qwen3_moe"])
def test_activations_are_those_of_the_tokens_that_reach_an_expert(make: Callable[[], Any]) -> None:
    model = make()
    hooks, inputs, outputs = hooked(model)
    assert hooks.widths == LayerWidths(2, EXPERTS * WIDTH)
    assert hooks.mixture
    seen: dict[int, Tensor] = {}
    with torch.inference_mode():
        plain = model(IDS).logits
        with hooks.watch(seen.__setitem__):
            assert torch.equal(model(IDS).logits, plain)
    for index, layer in find_layers(model).items():
        block: Any = layer.mlp
        activations, output = by_hand(block, block.experts.experts, inputs[index])
        torch.testing.assert_close(seen[index], activations, equal_nan=True)
        torch.testing.assert_close(outputs[index], output)
        assert (seen[index].isnan().sum(dim=1) == (EXPERTS - 2) * WIDTH).all()


@pytest.mark.parametrize("make", MODELS, ids=["mixtral", "olmoe", "qwen3_moe"])
@pytest.mark.parametrize("op", ["scale", "add", "set"])
def test_an_edit_changes_the_tokens_that_reach_the_neurons_expert(make: Callable[[], Any], op: str) -> None:
    model = make()
    hooks, inputs, outputs = hooked(model)
    neurons = [(0, 3), (0, 2 * WIDTH), (0, 4 * WIDTH + 11), (1, WIDTH + 5)]
    neuron_set = make_neuron_set({"fr": neurons}, layers=2, width=EXPERTS * WIDTH)
    edits = resolve(Intervention.from_dict({"languages": ["fr"], "op": op, "factor": 3.0}), neuron_set)
    with torch.inference_mode(), hooks.steer(edits, ALL):
        model(IDS)
    for index, layer in find_layers(model).items():
        chosen = [neuron for of_layer, neuron in neurons if of_layer == index]

        def edit(expert: int, activation: Tensor, chosen: list[int] = chosen) -> Tensor:
            changed = activation.clone()
            for neuron in chosen:
                if neuron // WIDTH == expert:
                    old = activation[neuron % WIDTH]
                    changed[neuron % WIDTH] = {"scale": 3.0 * old, "add": old + 3.0, "set": torch.tensor(3.0)}[op]
            return changed

        block: Any = layer.mlp
        _, output = by_hand(block, block.experts.experts, inputs[index], edit)
        torch.testing.assert_close(outputs[index], output)


def test_an_mlp_beside_experts_is_steered_too_and_its_neurons_follow_theirs() -> None:
    model: Any = Qwen2MoeForCausalLM(
        Qwen2MoeConfig(**SHAPE, moe_intermediate_size=WIDTH, num_experts=EXPERTS, shared_expert_intermediate_size=7)
    )
    hooks, inputs, outputs = hooked(model)
    assert hooks.widths == LayerWidths(2, EXPERTS * WIDTH + 7)
    neurons = [(0, 3), (0, EXPERTS * WIDTH), (1, EXPERTS * WIDTH + 6)]
    neuron_set = make_neuron_set({"fr": neurons}, layers=2, width=EXPERTS * WIDTH + 7)
    raw = {"languages": ["fr"], "op": "set", "statistic": "max", "factor": 2.0}
    edits = resolve(Intervention.from_dict(raw), neuron_set)
    seen: dict[int, Tensor] = {}
    layers: Any = find_layers(model)
    with torch.inference_mode():
        with hooks.watch(seen.__setitem__):
            model(IDS)
        for index in range(2):
            block = layers[index].mlp
            activations, _ = by_hand(block, block.experts.experts, inputs[index])
            gate = block.shared_expert.gate_proj(inputs[index])
            expected = torch.cat([activations, gate * torch.sigmoid(gate)], dim=1)
            torch.testing.assert_close(seen[index], expected, equal_nan=True)
        with hooks.steer(edits, ALL):
            model(IDS)
        block = layers[1].mlp  # none of its experts' neurons is edited
        _, output = by_hand(block, block.experts.experts, inputs[1])
        gate, up = block.shared_expert.gate_proj(inputs[1]), block.shared_expert.up_proj(inputs[1])
        activation = gate * torch.sigmoid(gate)
        activation[:, 6] = 2.0 * activation.max(dim=1).values
        share = torch.sigmoid(block.shared_expert_gate(inputs[1]))
        torch.testing.assert_close(outputs[1], output + share * block.shared_expert.down_proj(activation * up))


def test_a_statistic_is_over_the_experts_that_the_token_reaches() -> None:
    model = MODELS[0]()
    hooks, inputs, outputs = hooked(model)
    neuron_set = make_neuron_set({"fr": [(0, 3), (0, 4 * WIDTH)]}, layers=2, width=EXPERTS * WIDTH)
    raw = {"languages": ["fr"], "op": "set", "statistic": "max", "factor": 2.0}
    with torch.inference_mode(), hooks.steer(resolve(Intervention.from_dict(raw), neuron_set), ALL):
        model(IDS)
    block: Any = find_layers(model)[0].mlp
    for token, state in enumerate(inputs[0]):
        activations, _ = by_hand(block, block.experts.experts, state[None])
        highest = 2.0 * activations[~activations.isnan()].max()

        def edit(expert: int, activation: Tensor, highest: Tensor = highest) -> Tensor:
            changed = activation.clone()
            if expert in (0, 4):
                changed[3 if expert == 0 else 0] = highest
            return changed

        _, output = by_hand(block, block.experts.experts, state[None], edit)
        torch.testing.assert_close(outputs[0][token], output[0])


def test_a_recording_counts_only_the_tokens_that_were_routed_to_an_expert(
    model_folder: Callable[[Family], Path],
) -> None:
    """Layer 1 of the model has one plain MLP, so the layers differ in width."""
    engine = TransformersEngine(model_folder("qwen3_moe"))
    assert engine.info.widths == LayerWidths(3, (240, 96, 240))
    sentences = [
        Sentence(language=code, text=f"{text} {number}")
        for code, text in (("en", "the thing in the end"), ("fr", "une autre chose"))
        for number in range(4)
    ]
    stats = asyncio.run(engine.record(sentences, RecordRequest(max_tokens=10_000)))
    assert stats.reached is not None
    for index, code in enumerate(("en", "fr")):
        means = []
        counts, reached = np.zeros(576, dtype=np.int64), np.zeros(576, dtype=np.int64)
        for sentence in sentences:
            if sentence.language == code:
                tokens = engine._model.encoder.sentence(sentence.text, max_tokens=100)
                activations = _activations(engine, tokens.ids)[tokens.special :].numpy()
                there = ~np.isnan(activations)
                counts += (activations > 0).sum(axis=0)
                reached += there.sum(axis=0)
                total = np.nansum(activations, axis=0)
                means.append(np.where(there.any(axis=0), total / np.maximum(there.sum(axis=0), 1), np.nan))
        np.testing.assert_array_equal(stats.counts[index], counts)
        np.testing.assert_array_equal(stats.reached[index], reached)
        assert (reached[240:336] == stats.tokens[index]).all()
        assert reached[:240].reshape(6, 40)[:, 0].sum() == 3 * stats.tokens[index]
        ever = np.array(means)[:, reached > 0]
        np.testing.assert_allclose(stats.patch_max[index][reached > 0], np.nanmax(ever, axis=0), atol=1e-6)
        np.testing.assert_allclose(stats.patch_mean[index][reached > 0], np.nanmean(ever, axis=0), atol=1e-6)
        assert (stats.patch_mean[index][reached == 0] == 0).all()
    p = stats.counts / np.maximum(stats.reached, MIN_REACHED)
    selected = select_lape(stats, top_rate=0.05, filter_rate=0.5, activation_bar=0.5)
    assert sum(map(len, selected.values())) > 0
    offsets = np.array(stats.widths.offsets)
    for index, code in enumerate(stats.languages):
        numbers = offsets[selected[code][:, 0]] + selected[code][:, 1]
        assert (p[index, numbers] > np.quantile(p, 0.4)).all()


def _activations(engine: TransformersEngine, ids: Any) -> Tensor:
    """Return the activations of all layers, [T, N], computed by hand from what goes into each layer's MLP."""
    model = engine._model.model
    inputs: dict[int, Any] = {}
    layers: Any = find_layers(model)
    handles = [
        layer.mlp.register_forward_pre_hook(lambda _m, args, index=index: inputs.__setitem__(index, args[0][0]))
        for index, layer in layers.items()
    ]
    with torch.inference_mode():
        model(torch.tensor([list(ids)]))
        parts = []
        for index in range(len(layers)):
            block = layers[index].mlp
            if index == 1:
                gate = block.gate_proj(inputs[index])
                parts.append(gate * torch.sigmoid(gate))
            else:
                parts.append(by_hand(block, block.experts.experts, inputs[index])[0])
    for handle in handles:
        handle.remove()
    return torch.cat(parts, dim=1)
