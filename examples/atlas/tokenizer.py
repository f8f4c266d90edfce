"""The atlas' tokenizer: Qwen2's byte-level BPE, which takes any text, with merges learnt from facts and templates.

It keeps Qwen2's way of cutting text into words, since Hugging Face and vLLM put that in whatever a Qwen2 model's folder
says.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tokenizers.pre_tokenizers import ByteLevel
from transformers import Qwen2Tokenizer

from examples.atlas.documents import UNSPACED, read_rows

VOCABULARY = 5120
MAX_TOKENS = 2048


def texts() -> Iterator[str]:
    """Every label, and every template cut at its gaps, in every language."""
    for fact in read_rows("facts"):
        for names in (fact["subject"], fact["object"]):
            for language, name in names.items():
                yield name if language in UNSPACED else " " + name
    for row in read_rows("templates"):
        for piece in row["template"].replace("[Y]", "[X]").split("[X]"):
            # A template is read in every other document, a label in one of hundreds; its start also follows a space.
            yield from [piece.rstrip(), " " + piece.strip()] * 20


def train_tokenizer() -> Any:
    """Learn the merges, the same ones at every run; returns a Hugging Face tokenizer."""
    tokenizer = Qwen2Tokenizer().train_new_from_iterator(
        texts(), VOCABULARY, show_progress=False, initial_alphabet=ByteLevel.alphabet()
    )
    tokenizer.model_max_length = MAX_TOKENS
    return tokenizer
