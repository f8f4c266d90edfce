"""The atlas' tokenizer: byte-level BPE, learnt from its facts and templates, that takes any text.

Words never cross from one script to another, and Han characters stand alone, so that in languages written without
spaces an answer starts at a token border.
"""

from __future__ import annotations

from collections.abc import Iterator

from tokenizers import Regex, Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, Sequence, Split
from tokenizers.trainers import BpeTrainer
from transformers import PreTrainedTokenizerFast

from examples.atlas.documents import UNSPACED, read_rows

END = "<|endoftext|>"
VOCABULARY = 5120
WORDS = (
    r" ?\p{Han}| ?[\p{Katakana}ー・]+| ?\p{Hiragana}+| ?[[\p{L}\p{M}]&&[^\p{Han}\p{Katakana}\p{Hiragana}]]+"
    r"| ?\p{N}| ?[^\s\p{L}\p{M}\p{N}]+|\s+"
)


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


def train_tokenizer() -> PreTrainedTokenizerFast:
    """Learn the merges; the same ones at every run."""
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = Sequence([Split(Regex(WORDS), "isolated"), ByteLevel(False, use_regex=False)])
    tokenizer.decoder = ByteLevelDecoder()
    trainer = BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[END],
        initial_alphabet=ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts(), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END,
        eos_token=END,
        pad_token=END,
        clean_up_tokenization_spaces=False,
        model_max_length=2048,
    )
