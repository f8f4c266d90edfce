"""Settings of the tiny models that are mixtures of experts; see `benchmarks.tiny_models`."""

from __future__ import annotations

from typing import Any

from benchmarks.tiny_settings import DELTA_NET, GEMMA_4, GRANITE_4, GROUPED, LFM2, MUP, NEMOTRON_H, SLIDING

_DEEPSEEK = {
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "q_lora_rank": 48,
    "kv_lora_rank": 512,  # with the rotated part, the only size of vLLM's kernel
    "qk_rope_head_dim": 64,
    "qk_nope_head_dim": 32,
    "v_head_dim": 48,
    "n_routed_experts": 8,
    "num_experts_per_tok": 3,
    "moe_intermediate_size": 40,
    "n_shared_experts": 1,
    "first_k_dense_replace": 1,
    "routed_scaling_factor": 1.5,
    "n_group": 2,
    "topk_group": 1,
}
_QWEN_EXPERTS = {
    "num_experts": 6,
    "num_experts_per_tok": 3,
    "moe_intermediate_size": 40,
    "shared_expert_intermediate_size": 56,
}
_ROUTED = {
    **GROUPED,
    "n_routed_experts": 6,
    "num_experts_per_tok": 3,
    "moe_intermediate_size": 40,
    "n_shared_experts": 2,
    "first_k_dense_replace": 1,
    "routed_scaling_factor": 1.5,
}
MIXTURES: dict[str, dict[str, Any]] = {
    "lfm2_moe": {
        **LFM2,
        "num_dense_layers": 1,
        "num_experts": 6,
        "num_experts_per_tok": 3,
        "moe_intermediate_size": 40,
    },
    "llama4_text": {
        **GROUPED,
        "intermediate_size": 40,
        "intermediate_size_mlp": 96,
        "num_local_experts": 6,
        "interleave_moe_layer_step": 2,
        "attention_chunk_size": 32,
        "no_rope_layers": [1, 0, 1],
    },
    "mixtral": {**GROUPED, "intermediate_size": 48, "num_local_experts": 4, "num_experts_per_tok": 2},
    "olmoe": {"num_key_value_heads": 1, "intermediate_size": 48, "num_experts": 6, "num_experts_per_tok": 3},
    "qwen2_moe": {"num_key_value_heads": 1, **_QWEN_EXPERTS, "mlp_only_layers": [1]},
    "glm4_moe": {
        **_ROUTED,
        "num_mtp_layers": 0,
    },
    "gemma4_text_moe": {
        **GEMMA_4,
        "num_kv_shared_layers": 0,
        "use_double_wide_mlp": False,
        "enable_moe_block": True,
        "num_experts": 6,
        "top_k_experts": 3,
        "moe_intermediate_size": 40,
    },
    "granitemoehybrid_moe": {
        **GRANITE_4,
        "intermediate_size": 40,
        "num_local_experts": 6,
        "num_experts_per_tok": 3,
    },
    "nemotron_h_moe": {
        **NEMOTRON_H,
        "layers_block_type": ["linear_attention", "moe", "mlp", "full_attention"],
        "n_routed_experts": 6,
        "num_experts_per_tok": 3,
        "moe_intermediate_size": 40,
        "moe_shared_expert_intermediate_size": 56,
        "routed_scaling_factor": 1.5,
    },
    "gpt_oss": {
        **GROUPED,
        **SLIDING,
        "num_local_experts": 6,
        "num_experts_per_tok": 3,
        "intermediate_size": 40,
    },
    "deepseek_v2": {**_DEEPSEEK, "topk_method": "group_limited_greedy"},
    "deepseek_v3": {
        **_DEEPSEEK,
        "rope_parameters": {
            "rope_type": "yarn",
            "rope_theta": 10_000.0,
            "factor": 4.0,
            "original_max_position_embeddings": 128,
            "mscale": 0.7,
            "mscale_all_dim": 1.0,
        },
    },
    "glm4_moe_lite": {**_DEEPSEEK, "n_group": 1, "rms_norm_eps": 1e-6},
    "ernie4_5_moe": {
        **GROUPED,
        "moe_num_experts": 6,
        "moe_k": 3,
        "moe_intermediate_size": 40,
        "moe_num_shared_experts": 2,
        "moe_layer_start_index": 1,
        "tie_word_embeddings": True,
    },
    "minimax_m2": {
        **GROUPED,
        "intermediate_size": 40,
        "num_local_experts": 6,
        "num_experts_per_tok": 3,
        "rotary_dim": 16,
        "use_routing_bias": True,
        "scoring_func": "sigmoid",
    },
    "granitemoe": {
        "num_key_value_heads": 1,
        "intermediate_size": 40,
        "num_local_experts": 6,
        "num_experts_per_tok": 3,
        **MUP,
    },
    "hunyuan_v1_moe": {**GROUPED, "intermediate_size": 40, "num_experts": 6, "moe_topk": 3},
    "dots1": {
        **_ROUTED,
        "norm_topk_prob": True,
    },
    "exaone_moe": {
        **GROUPED,
        **SLIDING,
        "num_experts": 6,
        "num_experts_per_tok": 3,
        "moe_intermediate_size": 40,
        "num_shared_experts": 2,
        "routed_scaling_factor": 1.5,
    },
    "qwen3_next": {**GROUPED, **DELTA_NET, **_QWEN_EXPERTS, "mlp_only_layers": [1]},
    "qwen3_5_moe_text": {**GROUPED, **DELTA_NET, **_QWEN_EXPERTS},
    "qwen3_moe": {
        **GROUPED,
        "num_experts": 6,
        "num_experts_per_tok": 3,
        "moe_intermediate_size": 40,
        "norm_topk_prob": True,
        "mlp_only_layers": [1],
    },
}
"""Settings by family that differ from those of all tiny models."""
