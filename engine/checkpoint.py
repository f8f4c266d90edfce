"""Checks of a model's folder before it is loaded: are all weights there, does its tokenizer tell texts apart.

A library that loads an incomplete checkpoint draws the missing weights at random and goes on, and a tokenizer without
its files gives every text the same tokens. Nothing here allocates the model.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

import transformers

from ampsweep.errors import InvalidRequest
from ampsweep.folders.weights import check_weight_files

log = logging.getLogger(__name__)

_SENTENCES = ("The capital of France is Paris.", "Water boils at 100 degrees, and ice melts at 0.")
_LEAST_ALIKE = 0.5
"""How alike a sentence and its tokens' text must be: tokenizers may change case and spaces, and drop accents."""
_SHOWN = 3
_TOKENIZER_FILES = ("tokenizer", "vocab", "spiece", "sentencepiece", "tekken", "merges")


def check_checkpoint(folder: Path) -> None:
    """Check that a folder holds every weight of its model, and none that the model has no place for.

    Raises InvalidRequest (param "model") that names the files or weights at fault. A quantised checkpoint, and an
    architecture that transformers does not know, are left to the engine.
    """
    check_weight_files(folder)
    check_tokenizer_files(folder)
    try:
        config: Any = transformers.AutoConfig.from_pretrained(folder)
    except (ValueError, KeyError):  # an architecture of vLLM's own, or nonsense, which loading it tells
        config = None
    known = type(config) in transformers.MODEL_FOR_CAUSAL_LM_MAPPING
    if not known or getattr(config, "quantization_config", None) is not None:
        log.debug("the weights of %s are checked by the engine alone", folder.name)
        return
    with _quiet():
        _, found = transformers.AutoModelForCausalLM.from_pretrained(
            folder, device_map="meta", output_loading_info=True, ignore_mismatched_sizes=True
        )
    mismatched = [name for name, *_ in found["mismatched_keys"]]
    for names, what in (
        (found["missing_keys"], "lacks weights of its model"),
        (mismatched, "has weights of another shape than its config.json says"),
        (found["unexpected_keys"], "has weights that its model has no place for"),
    ):
        if names:
            listed = ", ".join(sorted(names)[:_SHOWN])
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            message = f"the checkpoint in {folder.name} {what}: {listed}{more}"
            raise InvalidRequest(f"{message}; download it again, or correct its config.json", param="model")


def check_tokenizer_files(folder: Path) -> None:
    """Raise InvalidRequest (param "model") for a folder without a tokenizer."""
    if not any(path.name.startswith(_TOKENIZER_FILES) or path.suffix == ".tiktoken" for path in folder.iterdir()):
        message = f"{folder.name} has no tokenizer; add the tokenizer's files of the same model (tokenizer.json)"
        raise InvalidRequest(message, param="model")


def check_tokenizer(tokenizer: Any, name: str) -> None:
    """Check that different texts have different tokens, and that a text comes back from its tokens.

    Raises InvalidRequest (param "model").
    """
    tokens = [tokenizer.encode(text, add_special_tokens=False) for text in _SENTENCES]
    texts = [tokenizer.decode(ids, skip_special_tokens=True) for ids in tokens]
    alike = min(_alike(text, given) for text, given in zip(texts, _SENTENCES, strict=True))
    if tokens[0] == tokens[1] or alike < _LEAST_ALIKE:
        raise InvalidRequest(
            f"the tokenizer of {name} does not tell texts apart: {_SENTENCES[0]!r} comes back as {texts[0][:60]!r}; "
            "add the tokenizer's files of the same model (tokenizer.json)",
            param="model",
        )


def _alike(text: str, given: str) -> float:
    letters, wanted = ("".join(filter(str.isalnum, each.casefold())) for each in (text, given))
    return SequenceMatcher(None, letters, wanted, autojunk=False).ratio()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers from reporting what is reported here."""
    verbosity, progress = transformers.logging.get_verbosity(), transformers.logging.is_progress_bar_enabled()
    transformers.logging.set_verbosity(transformers.logging.CRITICAL)
    transformers.logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(verbosity)
        if progress:
            transformers.logging.enable_progress_bar()
