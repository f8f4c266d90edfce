"""A Qwen2-shaped model of about 60 million random parameters, and a tokenizer with one token for each byte."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers.pre_tokenizers import ByteLevel
from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen2Tokenizer

VOCABULARY = 16_384


def random_model(folder: Path, *, seed: int) -> None:
    """Write model and tokenizer to `folder`."""
    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=512,
        intermediate_size=4096,
        num_hidden_layers=7,
        num_attention_heads=8,
        num_key_value_heads=4,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=VOCABULARY - 1,
        dtype="float32",
    )
    Qwen2ForCausalLM(config).save_pretrained(folder)
    vocabulary = {letter: index for index, letter in enumerate(sorted(ByteLevel.alphabet()))}
    Qwen2Tokenizer(vocab=vocabulary, merges=[]).save_pretrained(folder)
