"""Finding the MLPs of a loaded vLLM model and putting steered activations into them.

Steerable are gated MLPs that compute `act_fn(gate_up)` in one module: Llama, Mistral, Qwen, Gemma and their like.
Everything else is refused by name, a model with a single unsteered layer too.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn
from vllm.model_executor.layers.activation import GeluAndMul, SiluAndMul

from ampsweep.errors import UnsupportedModel
from engine.kernels.activation import MlpForm
from engine.vllm_patch.table import Shard

_MLP = re.compile(r"(?:^|\.)layers\.(\d+)\.mlp$")


@dataclass(frozen=True, kw_only=True, eq=False)
class Mlps:
    """The MLPs of a worker's layers, in order, with what each computes, and the worker's part of the model."""

    shard: Shard
    modules: tuple[Any, ...]
    forms: tuple[MlpForm, ...]

    def replace(self, make: Callable[[int, nn.Module], nn.Module]) -> None:
        """Put `make(position, activation)` in place of the activation of each of the layers, counted from 0."""
        for position, mlp in enumerate(self.modules):
            mlp.act_fn = make(position, mlp.act_fn)


def find(model: nn.Module, *, layers: range, width: int, rank: int, ranks: int) -> Mlps:
    """Look up the MLPs of `layers`, the global indices that this worker holds.

    `width` are the model's neurons a layer, of which tensor parallelism gives rank `rank` of `ranks` an equal share.
    Raises UnsupportedModel, naming the model's class, unless each of the layers has exactly one MLP of a kind that can
    be steered.
    """
    name = type(model).__name__
    found: dict[int, Any] = {}
    for path, module in model.named_modules():
        if match := _MLP.search(path):
            found[int(match[1])] = module
    forms = tuple(_form(found.get(layer), layer, name) for layer in layers)
    if width % ranks:
        raise UnsupportedModel(f"{name}: {width} neurons a layer cannot be shared by {ranks} ranks")
    own = width // ranks
    return Mlps(
        shard=Shard(layers=tuple(layers), first=rank * own, width=own),
        modules=tuple(found[layer] for layer in layers),
        forms=forms,
    )


def _form(mlp: Any, layer: int, name: str) -> MlpForm:
    """Return what the MLP's activation module computes, or say why there is none."""
    if mlp is None:
        raise UnsupportedModel(f"{name} cannot be steered: its layer {layer} has no MLP where one is expected")
    inner = getattr(mlp, "act_fn", None)
    if hasattr(mlp, "experts"):
        raise UnsupportedModel(f"{name} cannot be steered: its layer {layer} is a mixture of experts")
    if isinstance(inner, SiluAndMul):
        return MlpForm(activation="silu", gated=True)
    if isinstance(inner, GeluAndMul):
        return MlpForm(activation="gelu_tanh" if inner.approximate == "tanh" else "gelu", gated=True)
    raise UnsupportedModel(
        f"{name} cannot be steered: the MLP of its layer {layer} ({type(mlp).__name__}) has no gated activation "
        f"that this version knows ({type(inner).__name__})"
    )
