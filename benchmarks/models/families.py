"""Tiny models of every supported family, with random weights and a byte-level tokenizer; nothing is downloaded.

The engine tests compare engines on them, and `benchmarks.gpu_check` does so on a GPU.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, PreTrainedTokenizerFast
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

from benchmarks.models.mixtures import MIXTURES
from benchmarks.models.multimodal import WRAPPERS
from benchmarks.models.settings import (
    COHERE_2,
    DELTA_NET,
    GEMMA,
    GEMMA_3,
    GEMMA_4,
    GRANITE_4,
    GROUPED,
    LATENT,
    LFM2,
    MAMBA,
    MINICPM_3,
    MROPE,
    MUP,
    NEMOTRON_H,
    SLIDING,
)

Family = Literal[
    "qwen2",
    "llama",
    "gemma2",
    "mistral",
    "qwen3",
    "gemma",
    "gemma3_text",
    "gemma3",
    "gemma4_text",
    "gemma4",
    "qwen2_5_vl",
    "qwen3_vl",
    "mistral3",
    "aya_vision",
    "cohere2_vision",
    "cohere",
    "cohere2",
    "olmo2",
    "phi3",
    "gpt_neox",
    "bloom",
    "gpt2",
    "granite",
    "starcoder2",
    "gptj",
    "falcon",
    "opt",
    "phi",
    "stablelm",
    "exaone4",
    "smollm3",
    "apertus",
    "nemotron",
    "nanochat",
    "falcon_h1",
    "granitemoehybrid",
    "nemotron_h",
    "lfm2",
    "olmo_hybrid",
    "qwen3_5_text",
    "qwen3_5",
    "mixtral",
    "olmoe",
    "qwen3_moe",
    "qwen2_moe",
    "glm4_moe",
    "gemma4_text_moe",
    "granitemoehybrid_moe",
    "nemotron_h_moe",
    "gpt_oss",
    "lfm2_moe",
    "llama4_text",
    "deepseek_v2",
    "deepseek_v3",
    "glm4_moe_lite",
    "ernie4_5_moe",
    "minimax_m2",
    "granitemoe",
    "hunyuan_v1_moe",
    "dots1",
    "exaone_moe",
    "phimoe",
    "solar_open",
    "cohere2_moe",
    "afmoe",
    "hy_v3",
    "qwen3_next",
    "qwen3_5_moe_text",
    "olmo3",
    "seed_oss",
    "hunyuan_v1_dense",
    "ernie4_5",
    "glm",
    "glm4",
    "ministral3",
    "arcee",
    "olmo",
    "helium",
    "jais2",
    "hyperclovax",
    "minicpm3",
    "vaultgemma",
    "cwm",
    "bitnet",
    "granite_swa",
    "youtu",
    "bamba",
    "jamba",
    "mistral3_moe",
    "qwen3_vl_moe",
    "glm4v",
    "glm4v_moe",
    "granitemoeshared",
    "granitemoe_swa",
    "flex_olmo",
    "mellum",
    "mimo_v2_flash",
    "qwen2_vl",
    "gpt_neo",
    "minimax",
    "xglm",
    "codegen",
]
"""`model_type` of an architecture; with `_moe`, if it is not part of it, the variant that has experts."""
TRANSFORMERS_ONLY: tuple[Family, ...] = (
    "xglm",
    "codegen",
    "olmo_hybrid",
    "qwen3_5_text",
    "qwen3_5",
    "nemotron_h_moe",
    "qwen3_next",
    "qwen3_5_moe_text",
    "granitemoe_swa",
    "gpt_neo",
    "bamba",
    "minimax",
    "mistral3_moe",
    "youtu",
    "jamba",
    "mimo_v2_flash",
)
"""The families that the `vllm` engine does not run on a CPU in float32; see `engine.vllm.models.platform_support`."""
FAMILIES: tuple[Family, ...] = ("qwen2", "llama", "gemma2", "mistral")
"""The families whose forward pass `tests.engine.forward` computes independently of any engine."""
LAYERS = 3
WIDTH: dict[Family, int] = {"qwen2": 96, "llama": 128, "gemma2": 96, "mistral": 112}
MAX_MODEL_LEN = 512

_SHAPE: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 2,
    "max_position_embeddings": MAX_MODEL_LEN,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 1,
    "tie_word_embeddings": False,
    "dtype": "float32",
}
_OVERRIDES: dict[str, dict[str, Any]] = {  # settings that differ from `_SHAPE`; None removes the setting
    "qwen2": {"num_key_value_heads": 2},
    "llama": {**GROUPED, "intermediate_size": 128},
    "gemma2": {**GEMMA, "query_pre_attn_scalar": 32, "sliding_window": 64},
    "mistral": {**GROUPED, "intermediate_size": 112, "sliding_window": None},
    "qwen3": GROUPED,
    "gemma": GEMMA,
    "gemma4_text": GEMMA_4,
    "gemma3_text": GEMMA_3,
    "gemma3": GEMMA_3,
    "gemma4": {**GEMMA_4, "global_head_dim": 64},
    "qwen2_5_vl": {"num_key_value_heads": 2, "rope_parameters": {**MROPE, "mrope_section": [4, 6, 6]}},
    "qwen3_vl": {
        **GROUPED,
        "rope_parameters": {**MROPE, "mrope_section": [6, 5, 5], "mrope_interleaved": True},
    },
    "mistral3": {**GROUPED, "sliding_window": None},
    "aya_vision": COHERE_2,
    "cohere2_vision": COHERE_2,
    "cohere": {"tie_word_embeddings": True, "logit_scale": 2.0},
    "cohere2": COHERE_2,
    "granite": {"num_key_value_heads": 1, **MUP},
    "bloom": {"intermediate_size": None, "max_position_embeddings": None, "tie_word_embeddings": True},
    "gpt2": {"intermediate_size": None, "tie_word_embeddings": True},
    "falcon": {"intermediate_size": None, "tie_word_embeddings": True},
    "opt": {"intermediate_size": None, "ffn_dim": 144, "word_embed_proj_dim": 64, "tie_word_embeddings": True},
    "exaone4": {**GROUPED, **SLIDING},
    "smollm3": {"num_key_value_heads": 1, "no_rope_layers": [1, 0, 1]},
    "olmo3": {"num_key_value_heads": 1, **SLIDING},
    "seed_oss": GROUPED,
    "hunyuan_v1_dense": GROUPED,
    "ernie4_5": {**GROUPED, "tie_word_embeddings": True},
    "glm": GROUPED,
    "glm4": GROUPED,
    "ministral3": GROUPED,
    "arcee": {"num_key_value_heads": 1},
    "olmo": {"num_key_value_heads": 1},
    "helium": {"num_key_value_heads": 1, "head_dim": 32},
    "jais2": GROUPED,
    "hyperclovax": {**GROUPED, **MUP},
    "minicpm3": MINICPM_3,
    "vaultgemma": {**GEMMA, **SLIDING, "query_pre_attn_scalar": 32},
    "xglm": {"intermediate_size": None, "ffn_dim": 96, "tie_word_embeddings": True},
    "codegen": {"intermediate_size": None, "rotary_dim": 8, "num_attention_heads": 4},  # it divides heads by four
    "gptj": {"intermediate_size": None, "rotary_dim": 16},
    "starcoder2": {"num_key_value_heads": 1},
    "stablelm": {"num_key_value_heads": 1},
    "apertus": {"num_key_value_heads": 1},
    "nemotron": {"num_key_value_heads": 1},
    "nanochat": {"num_key_value_heads": 1},
    "falcon_h1": {**MAMBA, "num_key_value_heads": 1, "mamba_d_ssm": 128, "mlp_multipliers": [0.5, 0.7]},
    "granitemoehybrid": {**GRANITE_4, "num_local_experts": 0},
    "nemotron_h": {**NEMOTRON_H, "layers_block_type": ["linear_attention", "mlp", "mlp", "full_attention"]},
    "lfm2": {**LFM2, "block_auto_adjust_ff_dim": False},
    "olmo_hybrid": {**DELTA_NET, "num_key_value_heads": 1},
    "qwen3_5_text": {**GROUPED, **DELTA_NET},
    "qwen3_5": {**GROUPED, **DELTA_NET},
    "cwm": {**GROUPED, **SLIDING, "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0}},
    "bitnet": {"num_key_value_heads": 1},
    "granite_swa": {"num_key_value_heads": 1, **MUP, **SLIDING},
    "youtu": {**LATENT},
    "bamba": {**MAMBA, "num_key_value_heads": 1, "attn_layer_indices": [1]},
    "qwen2_vl": {"num_key_value_heads": 2, "rope_parameters": {**MROPE, "mrope_section": [4, 6, 6]}},
    "glm4v": {
        "num_key_value_heads": 1,
        "rope_parameters": {**MROPE, "mrope_section": [2, 3, 3], "partial_rotary_factor": 0.5},
    },
    "gpt_neo": {
        "intermediate_size": None,
        "num_hidden_layers": None,
        "num_attention_heads": None,
        "num_layers": LAYERS,
        "num_heads": 2,
        "attention_types": [[["global", "local", "global"], 1]],
        "tie_word_embeddings": True,
    },
    **MIXTURES,
}
_ARCHITECTURES = {"phimoe": "PhiMoEForCausalLM"}
"""Names that published checkpoints give their class in `config.json`, where Transformers writes another one."""
_ONE_PLUS = ("gemma", "gemma2", "gemma3", "gemma3_text", "nemotron")  # their norms multiply by 1 + weight

_MERGED = (
    "th",
    "he",
    "in",
    "er",
    "an",
    "re",
    "on",
    "at",
    "en",
    "nd",
    "Ġt",
    "Ġa",
    "Ġs",
    "Ġi",
    "Ġth",
    "Ġthe",
    "Ġin",
    "ing",
)


def tiny_model(family: Family, path: Path, seed: int = 0) -> Path:
    """Write a model of a family and its tokenizer to a folder.

    The model is float32 with hidden size 64, heads of size 32 and LAYERS layers of about a hundred neurons (the exact
    number is in WIDTH for the families of FAMILIES). The weights are large enough that answers differ between prompts
    and the likeliest token leads clearly. The tokenizer works on bytes with a few merges, some of which begin with a
    space; it adds a BOS token for all families but qwen2.

    Args:
        family: The family.
        path: The folder, created if it does not exist.
        seed: Seed of the weights.

    Returns:
        The folder `path`.
    """
    path.mkdir(parents=True, exist_ok=True)
    tokenizer = _tokenizer(bos=family != "qwen2")
    tokenizer.save_pretrained(path)
    config = tiny_config(family)
    auto_class: Any = AutoModelForImageTextToText if family in WRAPPERS else AutoModelForCausalLM
    model = auto_class.from_config(config)
    tie = _shape(family)["tie_word_embeddings"]
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if "norm" in name or "ln_" in name:
                weights.uniform_(-0.3, 0.3, generator=generator)
                if name.endswith("weight") and (family not in _ONE_PLUS or name.endswith("model.norm.weight")):
                    weights.add_(1.0)
            else:
                tied = tie and weights is model.get_input_embeddings().weight
                # a larger scale would make every answer repeat the last token of its prompt
                weights.normal_(0.0, 0.1 if tied else 0.2, generator=generator)
            if name.endswith(("alpha_p", "alpha_n")):
                weights.copy_(weights.bfloat16())  # vLLM stores them so
        for name, bias in model.named_buffers():
            if name.endswith("e_score_correction_bias"):
                bias.normal_(0.0, 0.2, generator=generator)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(path)
    if (architecture := _ARCHITECTURES.get(family)) is not None:
        model.config.architectures = [architecture]
        model.config.save_pretrained(path)
    return path


def tiny_config(family: Family) -> Any:
    """Return the config of the model that `tiny_model` writes."""
    shape = {name: value for name, value in _shape(family).items() if value is not None}
    model_type = family if family in CONFIG_MAPPING_NAMES else family.removesuffix("_moe")
    if family in WRAPPERS:
        return WRAPPERS[family].config(model_type, shape)
    return AutoConfig.for_model(model_type, **shape)


def _shape(family: Family) -> dict[str, Any]:
    """Return the settings of a family's language model; None stands for no setting."""
    vocabulary = len(_tokenizer(bos=family != "qwen2"))
    return {"vocab_size": vocabulary, **_SHAPE, **_OVERRIDES.get(family, {})}


def _tokenizer(*, bos: bool) -> PreTrainedTokenizerFast:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate(["<s>", "</s>", *alphabet, *_MERGED])}
    merges = [(merged[:-1], merged[-1]) for merged in _MERGED]
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A" if bos else "$A", pair="<s> $A $B" if bos else "$A $B", special_tokens=[("<s>", 0)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="</s>")
