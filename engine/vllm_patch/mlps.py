"""Finding the MLPs of a loaded vLLM model and putting steered activations into them.

Steerable are gated MLPs that compute `act_fn(gate_up)` in one module: Llama, Mistral, Qwen, Gemma and their like.
Everything else is refused by name, a model with a single unsteered layer too.
"""

from __future__ import annotations

import re
from typing import Any

from torch import nn
from torch.nn import functional
from vllm.model_executor.layers.activation import GeluAndMul, SiluAndMul

from ampsweep.errors import UnsupportedModel
from engine.vllm_patch.activation import Activation, SteeredActivation
from engine.vllm_patch.table import Shard

_MLP = re.compile(r"(?:^|\.)layers\.(\d+)\.mlp$")


def install(model: nn.Module, *, layers: range, width: int, rank: int, ranks: int) -> tuple[Shard, list[Activation]]:
    """Replace every MLP's activation; return the worker's shard and each layer's activation function.

    `layers` are the global indices that this worker holds, `width` the model's neurons a layer, of which tensor
    parallelism gives rank `rank` of `ranks` an equal share. Raises UnsupportedModel, naming the model's class, unless
    each of the layers has exactly one MLP of a kind that can be steered; the model is then as it was.
    """
    name = type(model).__name__
    found: dict[int, Any] = {}
    for path, module in model.named_modules():
        if match := _MLP.search(path):
            found[int(match[1])] = module
    functions = [_function(found.get(layer), layer, name) for layer in layers]
    for position, layer in enumerate(layers):
        mlp = found[layer]
        mlp.act_fn = SteeredActivation(mlp.act_fn, position)
    if width % ranks:
        raise UnsupportedModel(f"{name}: {width} neurons a layer cannot be shared by {ranks} ranks")
    own = width // ranks
    return Shard(layers=tuple(layers), first=rank * own, width=own), functions


def _function(mlp: Any, layer: int, name: str) -> Activation:
    """Return the MLP's activation function on the gate, or say why there is none."""
    if mlp is None:
        raise UnsupportedModel(f"{name} cannot be steered: its layer {layer} has no MLP where one is expected")
    inner = getattr(mlp, "act_fn", None)
    if hasattr(mlp, "experts"):
        raise UnsupportedModel(f"{name} cannot be steered: its layer {layer} is a mixture of experts")
    if isinstance(inner, SiluAndMul):
        return functional.silu
    if isinstance(inner, GeluAndMul):
        approximate: str = inner.approximate
        return lambda gate: functional.gelu(gate, approximate=approximate)
    raise UnsupportedModel(
        f"{name} cannot be steered: the MLP of its layer {layer} ({type(mlp).__name__}) has no gated activation "
        f"that this version knows ({type(inner).__name__})"
    )
