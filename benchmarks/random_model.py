"""A Qwen2-shaped model of about 60 million parameters with random weights, and a tokenizer of one token a word."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

VOCABULARY = 16_384


def random_model(folder: Path, *, seed: int) -> None:
    """Write model and tokenizer to `folder`. Words are `w0`, `w1`, ...; ids follow them."""
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
        bos_token_id=VOCABULARY - 2,
        eos_token_id=VOCABULARY - 1,
        dtype="float32",
    )
    Qwen2ForCausalLM(config).save_pretrained(folder)
    words = {f"w{word}": word for word in range(VOCABULARY - 2)}
    words |= {"<bos>": VOCABULARY - 2, "<eos>": VOCABULARY - 1}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<bos>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<bos>", eos_token="<eos>", pad_token="<eos>"
    )
    wrapped.save_pretrained(folder)
