"""The neurons of the layers of mixtures of experts, as their configs give them."""

from __future__ import annotations

from typing import Any

import pytest

from ampsweep.folders.experts import mixture_widths

EXPERTS: dict[str, Any] = {"num_hidden_layers": 4, "intermediate_size": 20, "moe_intermediate_size": 6}


@pytest.mark.parametrize(
    ("model_type", "config", "by_layer"),
    [
        ("olmoe", {"num_experts": 8, "moe_intermediate_size": None}, (160, 160, 160, 160)),
        ("gpt_oss", {"num_local_experts": 8, "moe_intermediate_size": None}, (160, 160, 160, 160)),
        ("qwen3_next", {"num_experts": 8, "shared_expert_intermediate_size": 10}, (58, 58, 58, 58)),
        ("qwen3_5_moe_text", {"num_experts": 8, "shared_expert_intermediate_size": 10}, (58, 58, 58, 58)),
        ("lfm2_moe", {"num_experts": 8, "num_dense_layers": 2}, (20, 20, 48, 48)),
        (
            "deepseek_v2",
            {"n_routed_experts": 8, "n_shared_experts": 2, "first_k_dense_replace": 1, "moe_layer_freq": 1},
            (20, 60, 60, 60),
        ),
        (
            "deepseek_v3",
            {"n_routed_experts": 8, "n_shared_experts": 1, "first_k_dense_replace": 3},
            (20, 20, 20, 54),
        ),
        ("glm4_moe_lite", {"n_routed_experts": 8, "n_shared_experts": 1, "first_k_dense_replace": 1}, (20, 54, 54, 54)),
        (
            "glm4_moe_lite",
            {"n_routed_experts": 8, "mlp_layer_types": ["dense", "sparse", "dense", "sparse"]},
            (20, 48, 20, 48),
        ),
        ("ernie4_5_moe", {"moe_num_experts": 8, "moe_num_shared_experts": 2}, (20, 60, 60, 60)),
        (
            "ernie4_5_moe",
            {"moe_num_experts": 8, "moe_layer_start_index": 0, "moe_layer_end_index": 2, "moe_layer_interval": 2},
            (20, 48, 20, 20),
        ),
        ("minimax_m2", {"num_local_experts": 8, "moe_intermediate_size": None}, (160, 160, 160, 160)),
        ("hunyuan_v1_moe", {"num_experts": 8, "moe_intermediate_size": [6] * 4}, (180, 180, 180, 180)),
        (
            "exaone_moe",
            {"num_experts": 8, "num_shared_experts": 2, "mlp_layer_types": ["dense", "sparse", "sparse", "sparse"]},
            (20, 60, 60, 60),
        ),
        ("dots1", {"n_routed_experts": 8, "n_shared_experts": 2, "first_k_dense_replace": 1}, (20, 60, 60, 60)),
        ("phimoe", {"num_local_experts": 8, "moe_intermediate_size": None}, (160, 160, 160, 160)),
        ("solar_open", {"n_routed_experts": 8, "n_shared_experts": 1}, (54, 54, 54, 54)),
        ("afmoe", {"num_experts": 8, "num_shared_experts": 2, "num_dense_layers": 2}, (20, 20, 60, 60)),
        ("hy_v3", {"num_experts": 8, "num_shared_experts": 1, "first_k_dense_replace": 1}, (20, 54, 54, 54)),
        ("jamba", {"num_experts": 8, "expert_layer_period": 2, "expert_layer_offset": 1}, (20, 48, 20, 48)),
        ("mistral4", {"n_routed_experts": 8, "n_shared_experts": 1, "first_k_dense_replace": 0}, (54, 54, 54, 54)),
        ("qwen3_vl_moe_text", {"num_experts": 8, "mlp_only_layers": [1]}, (48, 20, 48, 48)),
        (
            "glm4v_moe_text",
            {"n_routed_experts": 8, "n_shared_experts": 1, "first_k_dense_replace": 1},
            (20, 54, 54, 54),
        ),
        (
            "granitemoeshared",
            {"num_local_experts": 8, "moe_intermediate_size": None, "shared_intermediate_size": 10},
            (170, 170, 170, 170),
        ),
        ("flex_olmo", {"num_experts": 8, "moe_intermediate_size": None}, (160, 160, 160, 160)),
        (
            "mellum",
            {"num_experts": 8, "mlp_layer_types": ["dense", "sparse", "sparse", "sparse"]},
            (20, 48, 48, 48),
        ),
        (
            "cohere2_moe",
            {
                "num_experts": 8,
                "num_shared_experts": 2,
                "moe_intermediate_size": None,
                "prefix_dense_intermediate_size": 50,
                "first_k_dense_replace": 1,
            },
            (50, 200, 200, 200),
        ),
        (
            "llama4_text",
            {
                "num_local_experts": 8,
                "moe_intermediate_size": None,
                "intermediate_size_mlp": 50,
                "interleave_moe_layer_step": 2,
            },
            (50, 180, 50, 180),
        ),
        (
            "llama4_text",
            {"num_local_experts": 8, "moe_intermediate_size": None, "intermediate_size_mlp": 50, "moe_layers": [0]},
            (180, 50, 50, 50),
        ),
    ],
)
def test_a_layer_has_the_neurons_of_its_experts_and_of_the_mlp_beside_them(
    model_type: str, config: dict[str, Any], by_layer: tuple[int, ...]
) -> None:
    widths = mixture_widths({"model_type": model_type, **EXPERTS, **config})
    assert widths is not None
    assert widths.by_layer == by_layer


@pytest.mark.parametrize(
    ("model_type", "config"),
    [
        ("llama", {"num_experts": 0}),
        ("jamba", {"num_experts": 1}),
        ("nemotron_h", {"n_routed_experts": 8}),
        ("granitemoehybrid", {"num_local_experts": 0}),
        ("gemma4_text", {"num_experts": 8, "enable_moe_block": False}),
    ],
)
def test_a_dense_model_has_none(model_type: str, config: dict[str, Any]) -> None:
    assert mixture_widths({"model_type": model_type, **EXPERTS, **config}) is None


@pytest.mark.parametrize(
    ("model_type", "key"),
    [("zaya", "num_experts"), ("ernie4_5_vl_moe_text", "moe_num_experts"), ("longcat_flash", "n_routed_experts")],
)
def test_unsupported_mixtures_are_rejected_with_the_supported_types(model_type: str, key: str) -> None:
    with pytest.raises(ValueError, match=f"experts of type {model_type} are not supported; supported types: .*mixtral"):
        mixture_widths({"model_type": model_type, **EXPERTS, key: 8})


def test_a_missing_number_is_named() -> None:
    with pytest.raises(ValueError, match="does not give intermediate_size"):
        mixture_widths({"model_type": "mixtral", "num_hidden_layers": 2, "num_local_experts": 4})
