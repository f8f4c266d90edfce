"""Hooks on the layers of a loaded vLLM model, which pass what each returns to a module that steers the residual stream.

A layer returns its output as one tensor, or as two that the next layer adds, so that a fused kernel can normalise the
sum. A vector is added to the first of them in both cases.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from engine.steering.mlp_sites import find_layers

_MODULE = "ampsweep_residual"
_COMPLETE = frozenset(
    {
        "Cohere2MoeDecoderLayer",
        "CohereCompassDecoderLayer",
        "CohereDecoderLayer",
        "StablelmDecoderLayer",
        "Exaone4DecoderLayer",
        "GraniteMoeHybridAttentionDecoderLayer",
        "GraniteMoeHybridMambaDecoderLayer",
        "HyperCLOVAXDecoderLayer",
        "MuseGlimmerDecoderLayer",
        "PhiMoEDecoderLayer",
    }
)
"""Layers that return two tensors, the first of which already is the output."""


def attach(model: nn.Module, *, layers: range, make: Callable[[int], nn.Module]) -> None:
    """Call `make(position)`'s module after each of the worker's layers; positions count from 0.

    The module gets the layer's first tensor, which it may change in place, and the tensor that is yet to be added to
    it, or None.

    Args:
        model: The model as vLLM loaded it.
        layers: Global indices of the worker's layers.
        make: Makes the module of a layer.
    """
    by_index = find_layers(model)
    for position, index in enumerate(layers):
        by_index[index].add_module(_MODULE, make(position))
        by_index[index].register_forward_hook(_after_layer)


def _after_layer(layer: nn.Module, _inputs: object, output: Any) -> None:
    hidden, residual = split_output(output, complete=type(layer).__name__ in _COMPLETE)
    getattr(layer, _MODULE)(hidden, residual)


def split_output(output: Any, *, complete: bool) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return the first tensor of a layer's output, and the one that is yet to be added to it, or None.

    Args:
        output: What the layer returned: a tensor, or a tuple of one or two.
        complete: Whether the first tensor already is the output, even if there is a second one.
    """
    if not isinstance(output, tuple):
        return output, None
    hidden, *rest = output
    return hidden, rest[0] if rest and not complete else None
