from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from transformers import AutoConfig

from ampsweep.errors import UnsupportedModel
from engine.quantization import Quantization, Scheme
from engine.vllm.models.platform_support import check_platform


def _config(model_type: str) -> Any:
    return AutoConfig.for_model(model_type)


@pytest.mark.parametrize("model_type", ["xglm", "gpt_neo", "bamba", "minimax", "mistral4", "youtu", "biogpt"])
def test_models_without_code_in_vllm_are_rejected(model_type: str) -> None:
    for on_cpu in (True, False):
        with pytest.raises(
            UnsupportedModel, match=rf"vLLM cannot run {model_type} here: it has no code .*--engine transformers"
        ):
            check_platform(_config(model_type), dtype="bfloat16", on_cpu=on_cpu, unfused_experts=True)


def test_attention_that_vllm_computes_otherwise_is_rejected() -> None:
    for on_cpu in (True, False):
        with pytest.raises(
            UnsupportedModel, match=r"granitemoe_swa here: .* windows and sinks .*--engine transformers"
        ):
            check_platform(_config("granitemoe_swa"), dtype="float32", on_cpu=on_cpu, unfused_experts=True)


def test_language_models_without_a_class_of_their_own_are_rejected() -> None:
    for on_cpu in (True, False):
        with pytest.raises(UnsupportedModel, match=r"glm_ocr here: .* language model alone; use --engine transformers"):
            check_platform(_config("glm_ocr"), dtype="float32", on_cpu=on_cpu)


def test_cross_attention_is_rejected_with_a_model_that_has_none() -> None:
    for on_cpu in (True, False):
        with pytest.raises(UnsupportedModel, match=r"mllama here: .* no engine can steer them; use .* Llama 3\.1 8B"):
            check_platform(_config("mllama"), dtype="float32", on_cpu=on_cpu)


def test_blocks_without_a_kernel_on_a_cpu_are_rejected() -> None:
    for model_type in ("olmo_hybrid", "jamba", "mimo_v2_flash"):
        for dtype in ("float32", "bfloat16"):
            with pytest.raises(UnsupportedModel, match=rf"{model_type} here: .* needs? a GPU.*--engine transformers"):
                check_platform(_config(model_type), dtype=dtype, on_cpu=True)
        check_platform(_config(model_type), dtype="float32", on_cpu=False, unfused_experts=True)
    for model_type in ("deepseek_v2", "deepseek_v3", "glm4_moe_lite"):
        check_platform(_config(model_type), dtype="float32", on_cpu=True)
        small = AutoConfig.for_model(model_type, kv_lora_rank=256)
        with pytest.raises(UnsupportedModel, match=rf"{model_type} here: .* = 576, not 320; use --engine transformers"):
            check_platform(small, dtype="bfloat16", on_cpu=True)
        check_platform(small, dtype="bfloat16", on_cpu=False, unfused_experts=True)
    experts, dense = (
        AutoConfig.for_model("nemotron_h", hybrid_override_pattern=pattern) for pattern in ("ME-*", "M-*-")
    )
    with pytest.raises(UnsupportedModel, match="nemotron_h here: on a CPU vLLM runs no experts without a gate"):
        check_platform(experts, dtype="bfloat16", on_cpu=True)
    check_platform(dense, dtype="float32", on_cpu=True)
    with pytest.raises(UnsupportedModel, match=r"qwen3_next here: .*--dtype bfloat16"):
        check_platform(_config("qwen3_next"), dtype="float32", on_cpu=True)
    check_platform(_config("qwen3_next"), dtype="bfloat16", on_cpu=True)


@pytest.mark.parametrize("model_type", ["qwen3_5", "qwen3_5_text"])
def test_the_language_model_decides(model_type: str) -> None:
    with pytest.raises(UnsupportedModel, match="only a kernel for bfloat16"):
        check_platform(_config(model_type), dtype="float32", on_cpu=True)
    check_platform(_config(model_type), dtype="bfloat16", on_cpu=True)
    check_platform(_config(model_type), dtype="float32", on_cpu=False)


@pytest.mark.parametrize("model_type", ["qwen3_5_text", "qwen3_5_moe_text", "qwen3_next"])
@pytest.mark.parametrize(("keys", "values"), [(32, 32), (64, 128), (256, 256)])
def test_heads_of_linear_attention_without_a_kernel_are_rejected(model_type: str, keys: int, values: int) -> None:
    config = AutoConfig.for_model(model_type, linear_key_head_dim=keys, linear_value_head_dim=values)
    for dtype in ("float32", "bfloat16"):
        with pytest.raises(
            UnsupportedModel, match=rf"{model_type} here: .*_key_head_dim {keys} .* {values}; use --engine transformers"
        ):
            check_platform(config, dtype=dtype, on_cpu=True)
    check_platform(config, dtype="bfloat16", on_cpu=False, unfused_experts=True)
    half = AutoConfig.for_model(model_type, linear_key_head_dim=64, linear_value_head_dim=64)
    check_platform(half, dtype="bfloat16", on_cpu=True)


@pytest.mark.parametrize("model_type", ["deepseek_v3", "glm4_moe", "glm4_moe_lite"])
def test_models_that_vllm_scales_in_float16_are_rejected_there(model_type: str) -> None:
    with pytest.raises(UnsupportedModel, match=rf"{model_type} here: in float16 .*--dtype bfloat16"):
        check_platform(AutoConfig.for_model(model_type, routed_scaling_factor=2.5), dtype="float16", on_cpu=True)
    check_platform(AutoConfig.for_model(model_type, routed_scaling_factor=1.0), dtype="float16", on_cpu=True)


@pytest.mark.parametrize("model_type", ["mixtral", "qwen3_moe", "llama4_text", "deepseek_v3"])
def test_experts_are_rejected_on_a_gpu_before_they_are_loaded(model_type: str) -> None:
    with pytest.raises(
        UnsupportedModel,
        match=rf"{model_type} here: on a GPU vLLM computes its experts in a fused kernel.*"
        "--unfused-experts .* at a cost .*--engine transformers",
    ):
        check_platform(_config(model_type), dtype="bfloat16", on_cpu=False)


def test_experts_run_on_a_gpu_without_the_fused_kernel_unless_they_are_quantized() -> None:
    config, scheme = _config("qwen3_moe"), Scheme(bits=8, floating=True, grouping="channel", input_bits=8)
    check_platform(config, dtype="bfloat16", on_cpu=False, unfused_experts=True)
    quantized = Quantization(method="fp8", schemes=(scheme,))
    with pytest.raises(UnsupportedModel, match="its experts are quantized with FP8"):
        check_platform(config, dtype="bfloat16", on_cpu=False, unfused_experts=True, quantization=quantized)


def test_quantized_experts_are_rejected_before_they_are_loaded() -> None:
    config, scheme = _config("qwen3_moe"), Scheme(bits=8, floating=True, grouping="channel", input_bits=8)
    quantization = Quantization(method="fp8", schemes=(scheme,))
    with pytest.raises(UnsupportedModel, match="qwen3_moe here: its experts are quantized with FP8"):
        check_platform(config, dtype="bfloat16", on_cpu=True, quantization=quantization)
    for skipped in ("experts", "re:.*mlp"):
        partly = replace(quantization, skipped=(skipped,))
        check_platform(config, dtype="bfloat16", on_cpu=True, quantization=partly)
    check_platform(_config("qwen3"), dtype="bfloat16", on_cpu=True, quantization=quantization)


def test_other_models_are_left_to_vllm() -> None:
    for config in (None, _config("llama"), _config("falcon_h1")):
        for on_cpu in (True, False):
            check_platform(config, dtype="float32", on_cpu=on_cpu)
