"""Finds the MLPs of a loaded vLLM model and replaces their activations with steered ones.

Every layer must have a plain MLP, experts, or both, or be one that is known to have neither. A model in which even one
layer cannot be steered is rejected by name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn
from transformers import activations as hugging_face
from vllm.model_executor.layers import activation as vllm

from ampsweep.domain.neurons.layer_widths import LayerWidths
from ampsweep.errors import UnsupportedModel
from engine.kernels.activation import ActivationName, MlpForm
from engine.kernels.xielu import Xielu
from engine.steering.mlp_sites import ExpertsSite, MlpSite, find_layers, find_sites
from engine.vllm.worker.model.experts import SteerableExperts, check_experts
from engine.vllm.worker.table import Shard

_FUNCTIONS: dict[type[nn.Module], ActivationName] = {
    vllm.GELU: "gelu",
    vllm.GELUTanh: "gelu_tanh",
    vllm.NewGELU: "gelu_tanh",
    vllm.FastGELU: "gelu_tanh",
    vllm.QuickGELU: "quick_gelu",
    vllm.ReLUSquaredActivation: "relu2",
    nn.ReLU: "relu",
    nn.SiLU: "silu",
    # vLLM's Transformers backend runs the model code of Hugging Face (GPT-NeoX, Phi, nanochat), which uses these.
    hugging_face.GELUActivation: "gelu",
    hugging_face.GELUTanh: "gelu_tanh",
    hugging_face.NewGELUActivation: "gelu_tanh",
    hugging_face.FastGELUActivation: "gelu_tanh",
    hugging_face.QuickGELUActivation: "quick_gelu",
    hugging_face.ReLUSquaredActivation: "relu2",
    hugging_face.SiLUActivation: "silu",
}
"""Activation functions without a gate, by class."""

_OVERRIDES: dict[str, nn.Module] = {"BloomForCausalLM": nn.GELU(approximate="tanh")}
"""Replacements for activations that vLLM has wrong, by model: BLOOM was trained with the tanh form of GELU."""

_XIELU = (vllm.XIELU, hugging_face.XIELUActivation)
"""xIELU, which vLLM computes with constants rounded to bfloat16, whatever the model's dtype is."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SteerableMlp:
    """The plain MLP of one layer of a loaded model.

    Attributes:
        site: Where the layer calls its activation.
        activation: The activation that the model was trained with.
        form: What it computes.
        neurons: Neurons on this worker.
        reached: Neurons over all ranks; every token reaches them.
    """

    site: MlpSite
    activation: nn.Module
    form: MlpForm
    neurons: int
    reached: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Mlps:
    """What the rows of a worker's shard are: an MLP, experts, or None in a layer without an MLP."""

    shard: Shard
    mlps: tuple[SteerableMlp | SteerableExperts | None, ...]

    @property
    def forms(self) -> tuple[MlpForm | None, ...]:
        """What the MLP of each row, or each of its experts, computes."""
        return tuple(None if mlp is None else mlp.form for mlp in self.mlps)

    @property
    def reached(self) -> tuple[int, ...]:
        """The neurons of each row that one token reaches, over all ranks."""
        return tuple(0 if mlp is None else mlp.reached for mlp in self.mlps)

    def replace(self, make: Callable[[int, nn.Module], nn.Module], make_experts: Callable[[int], nn.Module]) -> None:
        """Replace the activation of each row by `make(row, activation)`.

        Experts have no activation module. They are computed by `make_experts(row)`.
        """
        for row, mlp in enumerate(self.mlps):
            if isinstance(mlp, SteerableExperts):
                mlp.method.steer(make_experts(row))
            elif mlp is not None:
                mlp.site.replace(make(row, mlp.activation))


def find(model: nn.Module, *, layers: range, widths: LayerWidths, rank: int, ranks: int) -> Mlps:
    """Find the MLPs of this worker's layers.

    Args:
        model: The model as vLLM loaded it.
        layers: Global indices of the worker's layers.
        widths: Neurons of the model's layers; tensor parallelism gives each rank an equal share.
        rank: The worker's tensor-parallel rank.
        ranks: Number of tensor-parallel ranks.

    Returns:
        The MLPs of the worker's layers. The model is unchanged until `Mlps.replace`.

    Raises:
        UnsupportedModel: A layer that should have neurons does not have exactly one MLP that can be steered, with the
            worker's share of the neurons. The message names the model's class.
    """
    name = type(model).__name__
    layers_by_index = find_layers(model)
    sites = [find_sites(layers_by_index.get(layer), index=layer, model=name) for layer in layers]
    rows: list[_Row] = []
    for layer, sites_of_layer in zip(layers, sites, strict=True):
        width, neurons = widths.of(layer), 0
        if width % ranks:
            raise UnsupportedModel(f"{name}: {width} neurons a layer cannot be shared by {ranks} ranks", param="model")
        share = width // ranks
        for site in sites_of_layer:
            if isinstance(site, ExpertsSite):
                beside = next((other for other in sites_of_layer if isinstance(other, MlpSite)), None)
                mlp: SteerableMlp | SteerableExperts = check_experts(
                    site, beside=beside, layer=layer, model=name, ranks=ranks
                )
            else:
                mlp = _plain(site, layer=layer, model=name, ranks=ranks)
            first = neurons if len(sites_of_layer) > 1 else rank * share
            rows.append(_Row(layer=layer, neurons=range(first, first + mlp.neurons), mlp=mlp))
            neurons += mlp.neurons
        if not sites_of_layer:
            rows.append(_Row(layer=layer, neurons=range(0), mlp=None))
        if neurons != share:
            raise UnsupportedModel(
                f"{name} cannot be steered: layer {layer} has {neurons} neurons on rank {rank} of {ranks}, not {share} "
                f"of {width}",
                param="model",
            )
    experts = tuple(row.mlp.experts if isinstance(row.mlp, SteerableExperts) else 1 for row in rows)
    mixture = any(isinstance(row.mlp, SteerableExperts) for row in rows)
    shard = Shard(
        layers=tuple(row.layer for row in rows),
        neurons=tuple(row.neurons for row in rows),
        experts=experts if mixture else (),
    )
    return Mlps(shard=shard, mlps=tuple(row.mlp for row in rows))


@dataclass(frozen=True, kw_only=True, eq=False)
class _Row:
    """A row of the shard and what it is."""

    layer: int
    neurons: range
    mlp: SteerableMlp | SteerableExperts | None


def _plain(site: MlpSite, *, layer: int, model: str, ranks: int) -> SteerableMlp:
    """Return an MLP, of which this worker is one of `ranks`; raise UnsupportedModel for an unknown activation."""
    activation = _corrected(site.activation, model)
    form, neurons = _form(activation, layer, model), _inputs(site.target)
    return SteerableMlp(site=site, activation=activation, form=form, neurons=neurons, reached=neurons * ranks)


def _corrected(activation: nn.Module, model: str) -> nn.Module:
    """Return the activation that the model was trained with, which is not always the one that vLLM computes."""
    if isinstance(activation, _XIELU):
        return Xielu.of(activation)
    return _OVERRIDES.get(model, activation)


def _form(activation: nn.Module, layer: int, name: str) -> MlpForm:
    """Return what the activation module of a layer computes; raise UnsupportedModel for an unknown one."""
    if isinstance(activation, Xielu):
        return MlpForm(activation="xielu", gated=False, constants=activation.constants)
    if isinstance(activation, vllm.SiluAndMul):
        return MlpForm(activation="silu", gated=True)
    if isinstance(activation, vllm.GeluAndMul):
        return MlpForm(activation="gelu_tanh" if activation.approximate == "tanh" else "gelu", gated=True)
    if isinstance(activation, nn.GELU):
        return MlpForm(activation="gelu_tanh" if activation.approximate == "tanh" else "gelu", gated=False)
    if (function := _FUNCTIONS.get(type(activation))) is not None:
        return MlpForm(activation=function, gated=False)
    raise UnsupportedModel(
        f"{name} cannot be steered: the MLP of its layer {layer} has an activation that is not supported "
        f"({type(activation).__name__})",
        param="model",
    )


def _inputs(projection: Any) -> int:
    """Return how many neurons the projection after the activation has on this worker."""
    neurons: int = getattr(projection, "input_size_per_partition", None) or projection.input_size
    return neurons
