"""Trains the tokenizer of the atlas: Qwen2's byte-level BPE with merges learned from the facts and templates.

It keeps Qwen2's rule for splitting text into words, because Hugging Face and vLLM use that rule for every Qwen2 model
whatever its folder says.
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
    """Yield every label, and the parts of every template around its gaps, in every language."""
    for fact in read_rows("facts"):
        for names in (fact["subject"], fact["object"]):
            for language, name in names.items():
                yield name if language in UNSPACED else " " + name
    for row in read_rows("templates"):
        for piece in row["template"].replace("[Y]", "[X]").split("[X]"):
            # Templates occur in every other document, labels in one of hundreds; their start may follow a space.
            yield from [piece.rstrip(), " " + piece.strip()] * 20


def train_tokenizer() -> Any:
    """Return a Hugging Face tokenizer with the learned merges, which are the same at every run."""
    tokenizer = Qwen2Tokenizer().train_new_from_iterator(
        texts(), VOCABULARY, show_progress=False, initial_alphabet=ByteLevel.alphabet()
    )
    tokenizer.model_max_length = MAX_TOKENS
    return tokenizer
