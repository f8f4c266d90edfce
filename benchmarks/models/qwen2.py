"""Qwen2-shaped models of random parameters, and a tokenizer with one token for each byte."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers.pre_tokenizers import ByteLevel
from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen2Tokenizer

SMALL: dict[str, Any] = {
    "vocab_size": 16_384,
    "hidden_size": 512,
    "intermediate_size": 4096,
    "num_hidden_layers": 7,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "dtype": torch.float32,
}
"""About 60 million parameters, for a CPU."""
QWEN2_5_1_5B: dict[str, Any] = {
    "vocab_size": 151_936,
    "hidden_size": 1536,
    "intermediate_size": 8960,
    "num_hidden_layers": 28,
    "num_attention_heads": 12,
    "num_key_value_heads": 2,
    "dtype": torch.bfloat16,
}
"""The shape of Qwen2.5 1.5B."""


def random_model(folder: Path, *, seed: int, shape: dict[str, Any] = SMALL) -> None:
    """Write model and tokenizer to `folder`; `shape` are settings of Qwen2."""
    torch.manual_seed(seed)
    config = Qwen2Config(
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=shape["vocab_size"] - 1,
        **shape,
    )
    Qwen2ForCausalLM(config).to(shape["dtype"]).save_pretrained(folder)
    vocabulary = {letter: index for index, letter in enumerate(sorted(ByteLevel.alphabet()))}
    Qwen2Tokenizer(vocab=vocabulary, merges=[]).save_pretrained(folder)
