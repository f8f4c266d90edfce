"""Settings that the tiny models of several families share; see `benchmarks.models.families`."""

from __future__ import annotations

GROUPED = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32}
SLIDING = {"sliding_window": 64, "layer_types": ["sliding_attention", "full_attention", "sliding_attention"]}
MAMBA = {
    "mamba_n_heads": 4,
    "mamba_d_head": 32,
    "mamba_d_state": 16,
    "mamba_chunk_size": 16,
    "mamba_expand": 2,
}
GRANITE_4 = {
    **MAMBA,
    "num_key_value_heads": 1,
    "shared_intermediate_size": 112,
    "layer_types": ["linear_attention", "full_attention", "linear_attention"],
    "residual_multiplier": 0.8,
}
LFM2 = {
    "num_key_value_heads": 1,
    "layer_types": ["conv", "full_attention", "conv"],
    "block_dim": 64,
    "conv_dim": 64,
    "tie_word_embeddings": True,
}
NEMOTRON_H = {
    "num_hidden_layers": None,
    "num_key_value_heads": 1,
    "head_dim": 32,
    "mamba_num_heads": 4,
    "mamba_head_dim": 32,
    "ssm_state_size": 16,
    "n_groups": 2,
    "chunk_size": 16,
}
GEMMA = {**GROUPED, "tie_word_embeddings": True}
GEMMA_3 = {**GEMMA, **SLIDING, "query_pre_attn_scalar": 32}
GEMMA_4 = {
    **GEMMA,
    **SLIDING,
    "layer_types": ["sliding_attention", "full_attention", "full_attention"],
    "global_head_dim": 32,
    "hidden_size_per_layer_input": 16,
    "vocab_size_per_layer_input": 276,  # the size of the vocabulary
    "num_kv_shared_layers": 1,
    "use_double_wide_mlp": True,
}
COHERE_2 = {"tie_word_embeddings": True, "logit_scale": 2.0, **SLIDING, "sliding_window": 256}
DELTA_NET = {
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 2,
    "linear_key_head_dim": 128,  # as in published checkpoints; vLLM's kernel for CPUs rejects 32
    "linear_value_head_dim": 128,
    "layer_types": ["linear_attention", "full_attention", "linear_attention"],
}
MINICPM_3 = {
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "q_lora_rank": 48,
    "kv_lora_rank": 32,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 16,
    "v_head_dim": 32,
    "scale_emb": 2.0,
    "dim_model_base": 32,
}
MROPE = {"rope_type": "default", "rope_theta": 10_000.0}
MUP = {"embedding_multiplier": 2.0, "attention_multiplier": 0.2, "residual_multiplier": 0.8, "logits_scaling": 0.5}
LATENT = {
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "q_lora_rank": 48,
    "kv_lora_rank": 512,  # with the rotated part, the only size of vLLM's kernel
    "qk_rope_head_dim": 64,
    "qk_nope_head_dim": 32,
    "v_head_dim": 48,
}
