"""Reads the neurons of each layer of a mixture of experts from its config.

The neurons of a layer with experts are those of its experts, one expert after the other: neuron i of expert e has the
index e * (neurons of an expert) + i.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ampsweep.domain.layer_widths import LayerWidths

_MIXTURES = frozenset({"mixtral", "olmoe", "qwen3_moe"})
"""The `model_type` of the mixtures of experts that can be steered."""


def mixture_widths(config: Mapping[str, Any]) -> LayerWidths | None:
    """Return the number of neurons of each layer; None if the model is none of the mixtures that are known here.

    Raises:
        ValueError: A number is missing or invalid.
    """
    if config.get("model_type") not in _MIXTURES:
        return None
    try:
        layers = range(config["num_hidden_layers"])
        return LayerWidths.parse(len(layers), [_width(config, layer) for layer in layers])
    except KeyError as error:
        raise ValueError(f"config of a mixture of experts does not give {error.args[0]}") from error


def _width(config: Mapping[str, Any], layer: int) -> int:
    experts = int(config.get("num_local_experts") or config["num_experts"])
    if not experts or _is_plain(config, layer):
        return int(config["intermediate_size"])
    return experts * int(config.get("moe_intermediate_size") or config["intermediate_size"])


def _is_plain(config: Mapping[str, Any], layer: int) -> bool:
    """Say whether a layer of Qwen3-MoE has one MLP for all tokens."""
    return layer in (config.get("mlp_only_layers") or ()) or bool((layer + 1) % config.get("decoder_sparse_step", 1))
