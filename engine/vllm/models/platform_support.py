"""Rejects models that vLLM cannot run here, before anything is loaded."""

from __future__ import annotations

from typing import Any

from ampsweep.errors import UnsupportedModel
from ampsweep.folders.experts import is_mixture
from engine.quantization import Quantization
from engine.vllm.models.deepseek import LATENT_ATTENTION
from engine.vllm.models.language_model import is_multimodal, language_model_class
from engine.vllm.options import UNFUSED_EXPERTS

_WITHOUT_CODE = frozenset(
    {"xglm", "codegen", "diffllama", "gpt_neo", "bamba", "minimax", "mistral4", "youtu", "biogpt"}
)
"""Language models, by `model_type`, that vLLM has no code for, and whose code in Transformers it cannot run."""
_CROSS_ATTENTION = "mllama_text_model"
"""The language model of Llama 3.2 Vision."""
_OTHER_ATTENTION = frozenset({"granitemoe_swa"})
"""Those whose attention vLLM computes without their windows and sinks."""
_ONLY_ON_GPUS = {
    "olmo_hybrid": "its linear attention needs a GPU, where it is a Triton kernel",
    "jamba": "its Mamba layers need a GPU, whose kernel for them vLLM does not have for CPUs",
    "mimo_v2_flash": "its attention, whose values are narrower than its keys, needs a GPU",
}
"""Why vLLM runs a model only on GPUs, by `model_type`."""
_BFLOAT16_BLOCKS = frozenset({"qwen3_5_text", "qwen3_5_moe_text", "qwen3_next"})
"""Those for whose linear attention vLLM has only a kernel in bfloat16 on a CPU."""
_DELTA_HEADS = (64, 128)
"""Sizes of a head in this kernel, for keys and values alike."""
_LATENT_WIDTH = 576
"""Numbers of a token that vLLM's kernels for this attention store on a CPU: kv_lora_rank 512, qk_rope_head_dim 64."""
_SCALED_IN_FLOAT16 = frozenset({"deepseek_v2", "deepseek_v3", "glm4_moe", "glm4_moe_lite"})
"""Those whose values vLLM divides by `routed_scaling_factor` in float16, so that they do not overflow: the residual
stream of DeepSeek, and the output of the experts of GLM, which it does not multiply again."""
_EXPERTS = tuple(
    f"model.layers.0.{block}.experts.0.{projection}"
    for block in ("mlp", "block_sparse_moe", "feed_forward")
    for projection in ("down_proj", "w2")
)
"""Names that checkpoints have for the second projection of an expert."""


def check_platform(
    config: Any,
    *,
    dtype: str,
    on_cpu: bool,
    quantization: Quantization | None = None,
    unfused_experts: bool = False,
) -> None:
    """Check that vLLM can run the blocks of a language model.

    Args:
        config: The model's config in Transformers; None if it has none, which loading the model reports.
        dtype: "float32", "bfloat16" or "float16".
        on_cpu: Whether vLLM runs on a CPU.
        quantization: How its weights are quantized, None if they are not.
        unfused_experts: Whether experts are computed without vLLM's fused kernel on a GPU.

    Raises:
        UnsupportedModel: It cannot; the message gives the reason and what to do.
    """
    if config is None:
        return
    text = config.get_text_config()
    model_type = text.model_type
    if model_type in _WITHOUT_CODE:
        _reject(model_type, "it has no code for it, and cannot run that of Transformers; use --engine transformers")
    if model_type == _CROSS_ATTENTION:
        reason = "its cross-attention layers compute nothing without an image, and no engine can steer them"
        _reject(config.model_type, f"{reason}; use the text model that it was made of, Llama 3.1 8B or 70B")
    if is_multimodal(config) and language_model_class(config) is None:
        _reject(config.model_type, "it has no class for its language model alone; use --engine transformers")
    if model_type in _OTHER_ATTENTION:
        _reject(model_type, "it leaves out the windows and sinks of its attention; use --engine transformers")
    mixture = is_mixture(text.to_dict())
    if mixture and not on_cpu and not unfused_experts:
        reason = "on a GPU vLLM computes its experts in a fused kernel, which cannot be steered"
        remedy = f"{UNFUSED_EXPERTS} computes them without it, at a cost that docs/models.md describes"
        _reject(model_type, f"{reason}; {remedy}; or use --engine transformers")
    if mixture and quantization is not None and not any(map(quantization.skips, _EXPERTS)):
        reason = f"its experts are quantized with {quantization}, and quantized experts cannot be steered"
        _reject(model_type, f"{reason}; use a checkpoint whose experts are not quantized")
    if on_cpu and model_type in _ONLY_ON_GPUS:
        _reject(model_type, f"{_ONLY_ON_GPUS[model_type]}; use --engine transformers")
    if dtype == "float16" and model_type in _SCALED_IN_FLOAT16 and text.routed_scaling_factor != 1.0:
        reason = "in float16 its values are divided by routed_scaling_factor; use --dtype bfloat16 or float32"
        _reject(model_type, f"{reason}, or --engine transformers")
    if on_cpu and model_type in LATENT_ATTENTION:
        _check_latent_width(text)
    if on_cpu and model_type == "nemotron_h" and "moe" in text.layers_block_type:
        _reject(model_type, "on a CPU vLLM runs no experts without a gate; use --engine transformers")
    if on_cpu and model_type in _BFLOAT16_BLOCKS:
        _check_linear_attention(text, dtype)


def _check_linear_attention(config: Any, dtype: str) -> None:
    """Raise UnsupportedModel if vLLM's kernel for linear attention does not have the model's heads, or the dtype."""
    keys, values = config.linear_key_head_dim, config.linear_value_head_dim
    if keys != values or keys not in _DELTA_HEADS:
        sizes = " or ".join(map(str, _DELTA_HEADS))
        reason = f"on a CPU its linear attention has only kernels for heads of {sizes} numbers, keys and values alike"
        heads = f"not for linear_key_head_dim {keys} and linear_value_head_dim {values}"
        _reject(config.model_type, f"{reason}, {heads}; use --engine transformers")
    if dtype != "bfloat16":
        reason = "on a CPU its linear attention has only a kernel for bfloat16; use --dtype bfloat16"
        _reject(config.model_type, f"{reason}, or --engine transformers")


def _check_latent_width(config: Any) -> None:
    """Raise UnsupportedModel if vLLM's kernel for latent attention does not have the model's size."""
    if (width := config.kv_lora_rank + config.qk_rope_head_dim) != _LATENT_WIDTH:
        reason = f"on a CPU its attention has only a kernel for kv_lora_rank + qk_rope_head_dim = {_LATENT_WIDTH}"
        _reject(config.model_type, f"{reason}, not {width}; use --engine transformers")


def _reject(model_type: str, reason: str) -> None:
    raise UnsupportedModel(f"vLLM cannot run {model_type} here: {reason}", param="model")
