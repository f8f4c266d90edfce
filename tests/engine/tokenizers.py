"""Tiny tokenizers, each with a peculiarity of those of published models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import bytes_to_unicode

BOS, EOS = 0, 1


def byte_level(*merged: str, template: str = "$A") -> Any:
    """Return a byte-level tokenizer with more tokens, each merged from two earlier ones or byte by byte."""
    vocabulary = ["<s>", "</s>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    merges = []
    split = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    for text in merged:
        ((token, _),) = split.pre_tokenize_str(text)
        halves = [(token[:border], token[border:]) for border in range(1, len(token))]
        whole = [half for half in halves if {*half} <= {*vocabulary}]
        for left, right in whole[:1] or [(left, right[0]) for left, right in halves]:
            if left + right not in vocabulary:
                merges.append((left, right))
                vocabulary.append(left + right)
    tokenizer = Tokenizer(models.BPE(vocab={token: index for index, token in enumerate(vocabulary)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=template, pair=f"{template} $B", special_tokens=[("<s>", BOS), ("</s>", EOS)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")


def word_piece() -> Any:
    """Return a tokenizer like BERT's: [CLS] before a text, [SEP] after it, no BOS and no EOS."""
    words = ["[CLS]", "[SEP]", "[UNK]", "the", "end", "##s", "of", "it"]
    tokenizer = Tokenizer(models.WordPiece(vocab={word: index for index, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 1), ("[CLS]", 0))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, cls_token="[CLS]", sep_token="[SEP]", unk_token="[UNK]")


def sentence_piece() -> Any:
    """Return a tokenizer like T5's: a marker for each space, and </s> after a text."""
    pieces = ["<s>", "</s>", "<unk>", "▁the", "▁end", "▁of", "s", "▁", "e", "n"]
    tokenizer = Tokenizer(models.Unigram([(piece, -float(index)) for index, piece in enumerate(pieces)], unk_id=2))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", EOS)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", unk_token="<unk>")


def with_byte_fallback() -> Any:
    """Return a tokenizer like Llama 2's: a token for each byte, and a decoder that takes adjacent bytes together."""
    vocabulary = ["<s>", "</s>", "a", *(f"<0x{byte:02X}>" for byte in range(256))]
    model = models.BPE(vocab={token: index for index, token in enumerate(vocabulary)}, merges=[], byte_fallback=True)
    tokenizer = Tokenizer(model)
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")


def name_of(byte: int, made: Callable[[], Any]) -> str:
    """Return how the vocabulary of `byte_level` or `with_byte_fallback` writes a byte."""
    names: dict[int, str] = bytes_to_unicode()
    if made is byte_level:
        return names[byte]
    return "a" if byte == ord("a") else f"<0x{byte:02X}>"
