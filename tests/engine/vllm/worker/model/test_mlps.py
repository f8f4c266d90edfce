"""Finds MLPs in stand-ins that name their modules as vLLM does, and rejects other models."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from transformers import activations as hugging_face

from ampsweep.domain.neurons.layer_widths import LayerWidths
from ampsweep.errors import UnsupportedModel
from engine.kernels.activation import ActivationName, MlpForm
from engine.vllm.worker.table import Shard

pytestmark = pytest.mark.engine
mlps = pytest.importorskip("engine.vllm.worker.model.mlps")
WIDTH = 6
WIDTHS = LayerWidths(4, WIDTH)


class _Projection(nn.Module):
    def __init__(self, held: int) -> None:
        super().__init__()
        self.input_size_per_partition = held


class _Mlp(nn.Module):
    def __init__(self, activation: nn.Module, held: int = WIDTH) -> None:
        super().__init__()
        self.act = activation
        self.c_proj = _Projection(held)


class _Layer(nn.Module):
    def __init__(self, mlp: nn.Module) -> None:
        super().__init__()
        self.mlp = mlp


class _Model(nn.Module):
    def __init__(self, *mlps: nn.Module) -> None:
        super().__init__()
        self.h = nn.ModuleList([_Layer(mlp) for mlp in mlps])


class BloomForCausalLM(_Model):
    """A model with the name of vLLM's class."""


def test_layers_keep_their_global_indices_and_ranks_their_share() -> None:
    model = _Model(nn.Identity(), nn.Identity(), *(_Mlp(nn.ReLU(), WIDTH // 2) for _ in range(2)))  # a pipeline's end
    model_mlps = mlps.find(model, layers=range(2, 4), widths=WIDTHS, rank=1, ranks=2)
    assert model_mlps.shard == Shard(layers=(2, 3), neurons=(range(3, 6), range(3, 6)))
    assert model_mlps.forms == (MlpForm(activation="relu", gated=False),) * 2
    put = [nn.Identity(), nn.Identity()]
    model_mlps.replace(lambda position, _inner: put[position], lambda row: put[row])
    assert [mlp.site.activation for mlp in model_mlps.mlps] == put
    assert put[1] in model.modules()


@pytest.mark.parametrize(
    ("activation", "name"),
    [
        (nn.ReLU(), "relu"),
        (hugging_face.ReLUSquaredActivation(), "relu2"),
        (hugging_face.QuickGELUActivation(), "quick_gelu"),
        (nn.SiLU(), "silu"),
        (nn.GELU(), "gelu"),
        (nn.GELU(approximate="tanh"), "gelu_tanh"),
    ],
)
def test_an_activation_is_recognized_by_its_class(activation: nn.Module, name: ActivationName) -> None:
    model_mlps = mlps.find(_Model(_Mlp(activation)), layers=range(1), widths=WIDTHS, rank=0, ranks=1)
    assert model_mlps.forms == (MlpForm(activation=name, gated=False),)


def test_blooms_gelu_is_the_one_it_was_trained_with() -> None:
    model_mlps = mlps.find(BloomForCausalLM(_Mlp(nn.GELU())), layers=range(1), widths=WIDTHS, rank=0, ranks=1)
    assert model_mlps.forms == (MlpForm(activation="gelu_tanh", gated=False),)
    x = torch.linspace(-3, 3, 13)
    torch.testing.assert_close(model_mlps.mlps[0].activation(x), nn.functional.gelu(x, approximate="tanh"))


def test_each_layer_has_its_own_xielu() -> None:
    activations = [hugging_face.XIELUActivation(alpha_p_init=alpha_p) for alpha_p in (0.5, 1.5)]  # in bfloat16
    model = _Model(*(_Mlp(activation) for activation in activations))
    model_mlps = mlps.find(model, layers=range(2), widths=WIDTHS, rank=0, ranks=1)
    x = torch.linspace(-3, 3, 13)
    functions = [mlp.activation for mlp in model_mlps.mlps]
    for form, activation, function in zip(model_mlps.forms, activations, functions, strict=True):
        assert (form.activation, form.constants) == ("xielu", function.constants)
        torch.testing.assert_close(function(x), activation.float()(x), rtol=0, atol=3e-6)
    assert model_mlps.forms[0].constants[0] == pytest.approx(0.5, rel=1e-2)
    assert model_mlps.forms[1].constants[0] == pytest.approx(1.5, rel=1e-2)


def test_a_layer_whose_mixer_is_no_mlp_has_no_neurons() -> None:
    class MambaMixer2(nn.Module):
        """A mixer with the name of vLLM's class."""

    class Mixer(nn.Module):
        def __init__(self, mixer: nn.Module) -> None:
            super().__init__()
            self.mixer = mixer

    model: Any = nn.Module()
    model.layers = nn.ModuleList([Mixer(MambaMixer2()), Mixer(_Mlp(nn.ReLU())), Mixer(nn.Identity())])
    model_mlps = mlps.find(model, layers=range(2), widths=LayerWidths(3, (0, WIDTH, 0)), rank=0, ranks=1)
    assert model_mlps.forms == (None, MlpForm(activation="relu", gated=False))
    assert (model_mlps.reached, model_mlps.shard.widths) == ((0, WIDTH), LayerWidths(2, (0, WIDTH)))
    put = [nn.Identity(), nn.Identity()]
    model_mlps.replace(lambda position, _inner: put[position], lambda row: put[row])
    assert model.layers[1].mixer.act is put[1]
    assert put[0] not in model.modules()
    with pytest.raises(UnsupportedModel, match="layer 0 has 0 neurons on rank 0 of 1, not 6 of 6"):
        mlps.find(model, layers=range(2), widths=LayerWidths(3, WIDTH), rank=0, ranks=1)
    with pytest.raises(UnsupportedModel, match="layer 2 has a Identity, not an MLP"):
        mlps.find(model, layers=range(3), widths=LayerWidths(3, (0, WIDTH, 0)), rank=0, ranks=1)


def test_an_mlp_beside_experts_is_a_row_of_its_own() -> None:
    experts = pytest.importorskip("engine.vllm.worker.model.experts")

    class Unfused(experts.UnfusedExperts):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            nn.Module.__init__(self)

    shared = _Mlp(nn.ReLU(), held=5)
    runner: Any = nn.Module()
    runner.routed_experts = nn.Module()
    attributes = {
        "quant_method": Unfused(),
        "expert_map": None,
        "activation": experts.MoEActivation.SILU,
        "swiglu_limit": None,
        "apply_router_weight_on_input": False,
        "w2_weight": torch.empty(3, 8, 4),
        "top_k": 2,
    }
    for name, value in attributes.items():
        setattr(runner.routed_experts, name, value)
    runner.shared_experts = nn.Module()
    runner.shared_experts._layer = shared
    layer = nn.Module()
    layer.experts, layer.shared_experts = runner, shared
    model = _Model(layer, _Mlp(nn.ReLU(), held=17))
    model_mlps = mlps.find(model, layers=range(2), widths=LayerWidths(2, 17), rank=0, ranks=1)
    shard = model_mlps.shard
    assert (shard.layers, shard.neurons) == ((0, 0, 1), (range(12), range(12, 17), range(17)))
    assert (shard.experts, model_mlps.reached) == ((3, 1, 1), (8, 5, 17))
    put = [nn.Identity() for _ in range(3)]
    model_mlps.replace(lambda row, _inner: put[row], lambda row: put[row])
    assert (runner.routed_experts.quant_method.computation, shared.act) == (put[0], put[1])
    runner.shared_experts._layer = _Mlp(nn.ReLU(), held=5)
    with pytest.raises(UnsupportedModel, match="layer 0 has experts of an unknown form"):
        mlps.find(model, layers=range(2), widths=LayerWidths(2, 17), rank=0, ranks=1)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (_Model(_Mlp(nn.ReLU()), nn.Identity()), "layer 1 has a Identity, not an MLP"),
        (_Model(_Mlp(nn.ReLU())), "layer 1 is missing"),
        (_Model(_Mlp(nn.ReLU()), _Mlp(nn.Tanh())), r"layer 1 has an activation .* not supported \(Tanh\)"),
        (_Model(_Mlp(nn.ReLU()), nn.ModuleDict({"experts": nn.Identity()})), "layer 1 computes its experts in a fused"),
        (_Model(_Mlp(nn.ReLU()), _Mlp(nn.ReLU(), WIDTH // 2)), "layer 1 has 3 neurons on rank 0 of 1, not 6 of 6"),
        (
            nn.ModuleDict({"vision": _Model(_Mlp(nn.ReLU())), "text": _Model(_Mlp(nn.ReLU()))}),
            "several lists of layers",
        ),
    ],
)
def test_a_model_with_one_layer_that_cannot_be_steered_is_rejected_and_unchanged(model: nn.Module, reason: str) -> None:
    before = list(model.modules())
    with pytest.raises(UnsupportedModel, match=reason):
        mlps.find(model, layers=range(2), widths=WIDTHS, rank=0, ranks=1)
    assert list(model.modules()) == before


def test_ranks_that_do_not_divide_the_neurons_are_rejected() -> None:
    with pytest.raises(UnsupportedModel, match="6 neurons a layer cannot be shared by 4 ranks"):
        mlps.find(_Model(_Mlp(nn.ReLU())), layers=range(1), widths=WIDTHS, rank=0, ranks=4)
