"""Reads the neurons of each layer of a mixture of experts from its config.

The neurons of a layer with experts are those of its experts, one expert after the other: neuron i of expert e has the
index e * (neurons of an expert) + i. The neurons of an MLP for all tokens beside them follow.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ampsweep.domain.neurons.layer_widths import LayerWidths

_MIXTURES = frozenset(
    {
        *("mixtral", "olmoe", "qwen2_moe", "qwen3_moe", "qwen3_next", "qwen3_5_moe_text", "glm4_moe", "gpt_oss"),
        *("lfm2_moe", "llama4_text", "glm4_moe_lite", "ernie4_5_moe", "minimax_m2"),
        *("hunyuan_v1_moe", "dots1", "exaone_moe"),
        *("deepseek_v2", "deepseek_v3", "gemma4_text", "granitemoe", "granitemoehybrid"),
        *("phimoe", "solar_open", "cohere2_moe", "afmoe", "hy_v3"),
        *("granitemoeshared", "granitemoe_swa", "flex_olmo", "mellum", "qwen3_vl_moe_text", "glm4v_moe_text"),
        *("mistral4", "jamba", "mimo_v2_flash", "minimax"),
    }
)
"""The `model_type` of the mixtures of experts that can be steered."""
_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
_OTHER_EXPERTS = ("num_routed_experts",)
"""Names of the same number in the configs of mixtures that cannot be steered."""
_OTHER_FORM = frozenset({"nemotron_h"})
"""Supported mixtures whose config gives the kind of each layer; `ampsweep.folders.model` reads them."""
_PLAIN = ("prefix_dense_intermediate_size", "intermediate_size_mlp")
"""Where a config gives the neurons of a plain MLP: Cohere 2 and Llama 4; `intermediate_size` in others."""
_SHARED = ("shared_expert_intermediate_size", "shared_intermediate_size")
_SHARED_EXPERTS = ("n_shared_experts", "moe_num_shared_experts", "num_shared_experts")


def is_mixture(config: Mapping[str, Any]) -> bool:
    """Return whether a config is that of a mixture of experts of a supported type, Nemotron-H excepted."""
    return config.get("model_type") in _MIXTURES and _experts(config) > 0


def mixture_widths(config: Mapping[str, Any]) -> LayerWidths | None:
    """Return the number of neurons of each layer; None if the model is not a mixture of experts, or is Nemotron-H.

    Raises:
        ValueError: A number is missing or invalid, or it is a mixture that cannot be steered.
    """
    if not is_mixture(config):
        _reject_other(config)
        return None
    try:
        layers = range(config["num_hidden_layers"])
        return LayerWidths.parse(len(layers), [_width(config, layer) for layer in layers])
    except KeyError as error:
        raise ValueError(f"config of a mixture of experts does not give {error.args[0]}") from error


def _reject_other(config: Mapping[str, Any]) -> None:
    """Raise ValueError for a mixture of experts of a type that is not supported."""
    model_type = config.get("model_type")
    experts = max((int(config.get(key) or 0) for key in (*_EXPERTS, *_OTHER_EXPERTS)), default=0)
    if experts > 1 and model_type not in _MIXTURES | _OTHER_FORM:
        known = ", ".join(sorted(_MIXTURES | _OTHER_FORM))
        raise ValueError(f"mixtures of experts of type {model_type} are not supported; supported types: {known}")


def _experts(config: Mapping[str, Any]) -> int:
    """Return the number of experts of a layer; 0 for a dense model, also of a family that has both."""
    if config.get("model_type") == "gemma4_text" and not config.get("enable_moe_block"):
        return 0
    experts = int(next((config[key] for key in _EXPERTS if config.get(key)), 0))
    return 0 if experts == 1 and config.get("model_type") == "jamba" else experts


def _width(config: Mapping[str, Any], layer: int) -> int:
    if _is_plain(config, layer):
        return int(next((config[key] for key in _PLAIN if config.get(key)), None) or config["intermediate_size"])
    of_expert = int(_of_expert(config))
    return _experts(config) * of_expert + _beside(config, of_expert)


def _of_expert(config: Mapping[str, Any]) -> Any:
    """Return the neurons of one expert. Hunyuan's configs repeat the number for each layer under the other name."""
    named = None if config.get("model_type") == "hunyuan_v1_moe" else config.get("moe_intermediate_size")
    return named or config["intermediate_size"]


def _beside(config: Mapping[str, Any], of_expert: int) -> int:
    """Return the neurons of the MLP for all tokens beside the experts of a layer."""
    if config.get("model_type") in ("gemma4_text", "llama4_text", "hunyuan_v1_moe"):
        return int(config["intermediate_size"])
    if count := next((config[key] for key in _SHARED_EXPERTS if config.get(key)), 0):  # as wide as so many experts
        return int(count) * of_expert
    return int(next((config[key] for key in _SHARED if config.get(key)), 0))


def _is_plain(config: Mapping[str, Any], layer: int) -> bool:
    """Return whether a layer has one MLP for all tokens.

    That are some layers of Qwen, Llama 4 and ERNIE 4.5, and the first ones of GLM 4.5, DeepSeek and LFM2.
    """
    if config.get("model_type") == "ernie4_5_moe":
        last = config.get("moe_layer_end_index", -1)
        first, end = config.get("moe_layer_start_index", 1), config["num_hidden_layers"] if last == -1 else last + 1
        return not first <= layer < end or (layer + 1) % config.get("moe_layer_interval", 1) != 0
    if kinds := config.get("mlp_layer_types"):  # GLM 4.7 Flash, K-EXAONE
        return bool(kinds[layer] == "dense")
    if layer < (config.get("first_k_dense_replace") or config.get("num_dense_layers") or 0):
        return True
    if layer % config.get("moe_layer_freq", 1) or layer in (config.get("mlp_only_layers") or ()):
        return True
    if period := config.get("expert_layer_period"):  # Jamba
        return layer % int(period) != int(config.get("expert_layer_offset", 1))
    if (listed := config.get("moe_layers")) is not None:
        return layer not in listed
    steps = (config.get(name, 1) for name in ("decoder_sparse_step", "interleave_moe_layer_step"))
    return any((layer + 1) % step for step in steps)
