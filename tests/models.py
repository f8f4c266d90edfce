"""Tiny models with random weights, made where a test needs them: real architectures, no download."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

Family = Literal["qwen2", "llama", "gemma2", "mistral"]
FAMILIES: tuple[Family, ...] = ("qwen2", "llama", "gemma2", "mistral")
LAYERS = 3
WIDTH = {"qwen2": 96, "llama": 128, "gemma2": 96, "mistral": 112}
MAX_MODEL_LEN = 512

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
    """Write a model of a family with its tokenizer to the folder `path` and return it.

    3 layers of WIDTH[family] neurons, hidden size 64, heads of 32, float32. The weights are large enough that answers
    differ from prompt to prompt and the likeliest token leads clearly. The tokenizer works on bytes with a few merges,
    some with a space in front; all families but qwen2 put a BOS token before the text, as their real ones do.
    """
    path.mkdir(parents=True, exist_ok=True)
    tokenizer = _tokenizer(bos=family != "qwen2")
    tokenizer.save_pretrained(path)
    model = _model(family, len(tokenizer))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if "norm" in name:
                weights.uniform_(-0.3, 0.3, generator=generator)
                if family != "gemma2" or name == "model.norm.weight":  # gemma2's norms multiply by 1 + weight
                    weights.add_(1.0)
            else:
                tied = family == "gemma2" and "embed" in name  # else every answer repeats its prompt's last token
                weights.normal_(0.0, 0.1 if tied else 0.2, generator=generator)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(path)
    return path


def _model(family: Family, vocabulary: int) -> PreTrainedModel:
    shape: dict[str, Any] = {
        "vocab_size": vocabulary,
        "hidden_size": 64,
        "intermediate_size": WIDTH[family],
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": MAX_MODEL_LEN,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 1,
        "tie_word_embeddings": family == "gemma2",
        "dtype": "float32",
    }
    if family == "qwen2":
        return Qwen2ForCausalLM(Qwen2Config(**{**shape, "num_attention_heads": 2}))
    if family == "llama":
        return LlamaForCausalLM(LlamaConfig(**shape, head_dim=32))
    if family == "mistral":
        return MistralForCausalLM(MistralConfig(**shape, head_dim=32, sliding_window=None))
    return Gemma2ForCausalLM(Gemma2Config(**shape, head_dim=32, query_pre_attn_scalar=32, sliding_window=64))


def _tokenizer(*, bos: bool) -> PreTrainedTokenizerFast:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: at for at, token in enumerate(["<s>", "</s>", *alphabet, *_MERGED])}
    merges = [(merged[:-1], merged[-1]) for merged in _MERGED]
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A" if bos else "$A", pair="<s> $A $B" if bos else "$A $B", special_tokens=[("<s>", 0)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="</s>")
