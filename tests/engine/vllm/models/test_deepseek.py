from __future__ import annotations

import pytest
from transformers import AutoConfig

from engine.vllm.models.deepseek import deepseek_arguments


def test_vllm_is_told_how_deepseek_v3_chooses_experts_if_its_config_does_not_say_so() -> None:
    routing = {"scoring_func": "sigmoid", "topk_method": "noaux_tc"}
    assert deepseek_arguments(AutoConfig.for_model("deepseek_v3"), on_cpu=False) == {"hf_overrides": routing}
    published = AutoConfig.for_model("deepseek_v3", **routing)
    assert deepseek_arguments(published, on_cpu=False) == {}


@pytest.mark.parametrize("on_cpu", [True, False])
def test_other_models_are_loaded_as_they_are(on_cpu: bool) -> None:
    for config in (None, AutoConfig.for_model("llama"), AutoConfig.for_model("qwen3_moe")):
        assert deepseek_arguments(config, on_cpu=on_cpu) == {}


@pytest.mark.parametrize("model_type", ["deepseek_v2", "deepseek_v3", "glm4_moe_lite"])
def test_on_a_cpu_latent_attention_is_computed_by_the_backend_that_was_tested(model_type: str) -> None:
    arguments = deepseek_arguments(AutoConfig.for_model(model_type), on_cpu=True)
    assert arguments["attention_backend"] == "CPU_MLA"
