"""The hooks on the experts of more families, compared with a computation by hand from what their routers choose.

Nothing depends on how a router chooses: its choice and its shares are read where the experts get them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ampsweep.domain.intervention import Intervention
from ampsweep.folders.model import read_model_folder
from benchmarks.models.families import LAYERS, Family
from engine.hf.engine import TransformersEngine
from engine.hf.experts import HookedExperts
from engine.steering.edits import resolve
from engine.steering.mlp_sites import find_layers
from engine.steering.self_test import self_test
from tests.engine.neuron_sets import make_neuron_set

FAMILIES: tuple[Family, ...] = (
    *("deepseek_v2", "deepseek_v3", "glm4_moe_lite", "qwen3_next", "qwen3_5_moe_text"),
    *("ernie4_5_moe", "minimax_m2", "granitemoe", "hunyuan_v1_moe", "dots1", "exaone_moe"),
    *("phimoe", "solar_open", "cohere2_moe", "afmoe", "hy_v3"),
    *("granitemoeshared", "granitemoe_swa", "flex_olmo", "mellum", "qwen3_vl_moe", "glm4v_moe", "mistral3_moe"),
    *("jamba", "mimo_v2_flash", "minimax"),
)
IDS = torch.tensor([[0, 31, 41, 59, 26, 53, 58, 97]])
VALUE = 3.0


class Calls:
    """What goes into and comes out of the experts of each layer in the last forward pass of a model."""

    def __init__(self, model: nn.Module) -> None:
        self.experts: dict[int, Any] = {}
        self.inputs: dict[int, tuple[Tensor, Tensor, Tensor]] = {}
        self.outputs: dict[int, Tensor] = {}
        self.handles = []
        for index, layer in find_layers(model).items():
            hooked = [module for module in layer.modules() if isinstance(module, HookedExperts)]
            for module in hooked:
                self.experts[index] = module.experts
                pre = lambda _m, args, index=index: self.inputs.__setitem__(index, args)  # noqa: E731
                post = lambda _m, _a, output, index=index: self.outputs.__setitem__(index, output)  # noqa: E731
                self.handles += [module.register_forward_pre_hook(pre), module.register_forward_hook(post)]

    def by_hand(self, layer: int, edited: list[int]) -> tuple[Tensor, Tensor]:
        """Return activations [T, E * F], NaN where a token does not reach an expert, and outputs [T, H] with edits.

        The neurons `edited` of the layer have the activation VALUE, where a token reaches their expert.
        """
        experts, (states, chosen, shares) = self.experts[layer], self.inputs[layer]
        width = experts.intermediate_dim
        activations = torch.full((len(states), experts.num_experts * width), torch.nan)
        outputs = torch.zeros_like(states)
        for token, state in enumerate(states):
            for expert, share in zip(chosen[token].tolist(), shares[token], strict=True):
                gate, up = (experts.gate_up_proj[expert] @ state).split(width)
                activation = gate * torch.sigmoid(gate)
                activations[token, expert * width : (expert + 1) * width] = activation
                activation = activation.clone()
                for neuron in edited:
                    if neuron // width == expert:
                        activation[neuron % width] = VALUE
                outputs[token] += share * (experts.down_proj[expert] @ (activation * up))
        return activations, outputs


@pytest.mark.processes
@pytest.mark.parametrize("family", FAMILIES)
def test_experts_are_recorded_and_steered_as_by_hand(
    family: Family, reference: Callable[[Family], TransformersEngine], model_folder: Callable[[Family], Path]
) -> None:
    engine = reference(family)
    asyncio.run(self_test(engine))
    assert engine.info.widths == read_model_folder(model_folder(family)).widths
    model, hooks = engine._model.model, engine._model.hooks
    calls, seen = Calls(model), dict[int, Tensor]()
    assert calls.experts, "the family has no experts"
    neurons = [(layer, neuron) for layer in calls.experts for neuron in (3, 3 * 40 + 7, 5 * 40 + 39)]
    width = engine.info.width
    neuron_set = make_neuron_set({"fr": neurons}, layers=LAYERS, width=width)
    edits = resolve(Intervention.from_dict({"languages": ["fr"], "op": "set", "factor": VALUE}), neuron_set)
    with torch.inference_mode():
        with hooks.watch(seen.__setitem__):
            model(IDS)
        for layer, experts in calls.experts.items():
            activations, outputs = calls.by_hand(layer, [])
            of_experts = experts.num_experts * experts.intermediate_dim
            torch.testing.assert_close(seen[layer][:, :of_experts], activations, equal_nan=True)
            torch.testing.assert_close(calls.outputs[layer], outputs, rtol=0, atol=1e-4)  # sums in another order
        with hooks.steer(edits, torch.ones(IDS.shape[1])):
            model(IDS)
        for layer in calls.experts:
            _, outputs = calls.by_hand(layer, [neuron for of_layer, neuron in neurons if of_layer == layer])
            torch.testing.assert_close(calls.outputs[layer], outputs, rtol=0, atol=1e-4)  # sums in another order
    for handle in calls.handles:
        handle.remove()
