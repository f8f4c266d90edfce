"""The tokens of a model's vocabulary, read from its folder without the library of its tokenizer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def read_vocabulary(folder: Path) -> frozenset[str] | None:
    """Return the tokens as the vocabulary writes them, added ones included.

    Args:
        folder: The folder of a model.

    Returns:
        None if it has no `tokenizer.json` of a known form. Loading the model says what is wrong with it.
    """
    try:
        tokenizer = _read(folder / "tokenizer.json")
        vocabulary = tokenizer["model"]["vocab"]
        tokens = set(vocabulary) if isinstance(vocabulary, dict) else {token for token, _ in vocabulary}
        tokens |= {added["content"] for added in tokenizer.get("added_tokens") or ()}
        if (folder / "tokenizer_config.json").is_file():  # it may add further ones
            further = _read(folder / "tokenizer_config.json").get("added_tokens_decoder") or {}
            tokens |= {added["content"] for added in further.values()}
        if (folder / "added_tokens.json").is_file():
            tokens |= set(_read(folder / "added_tokens.json"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return frozenset(tokens)


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
