"""What a model's folder says about it without loading it: its shape, and a fingerprint of its files.

Works on `config.json`, the tokenizer's files and the safetensors files of a Hugging Face folder. Imports no torch.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ampsweep.canonical import content_hash, file_hash
from ampsweep.errors import InvalidRequest

_TOKENIZER = ("tokenizer", "vocab", "merges", "special_tokens", "added_tokens")


@dataclass(frozen=True, kw_only=True)
class ModelShape:
    """A model by name and fingerprint, with its number of layers and of neurons a layer."""

    name: str
    fingerprint: str
    layers: int
    width: int


def fingerprint(folder: Path) -> str:
    """Return 64 hex digits over the bytes of all that decides a model's answers: configs, tokenizer and weights.

    The weights are read whole (about 2 GB a second): two models may differ in one row only, when neurons were edited.
    Raises InvalidRequest where the folder holds no model.
    """
    if not (folder / "config.json").is_file() or not any(folder.glob("*.safetensors")):
        raise InvalidRequest(f"{folder} is no model folder: it needs config.json and *.safetensors", param="model")
    files = [
        path
        for path in sorted(folder.iterdir())
        if path.name in ("config.json", "generation_config.json")
        or path.name.startswith(_TOKENIZER)
        or path.suffix == ".safetensors"
    ]
    return content_hash([[path.name, file_hash(path)] for path in files], length=64)


def read_shape(folder: Path, *, name: str | None = None) -> ModelShape:
    """Read a model's shape from its config.

    Raises InvalidRequest where the folder holds no model or the config does not say the shape.
    """
    mark = fingerprint(folder)
    try:
        config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise InvalidRequest(f"{folder}/config.json is no JSON: {error}", param="model") from error
    text = {**config, **config.get("text_config", {})}
    layers, width = text.get("num_hidden_layers"), text.get("intermediate_size")
    if not isinstance(layers, int) or not isinstance(width, int):
        raise InvalidRequest(f"{folder}/config.json has no num_hidden_layers and intermediate_size", param="model")
    return ModelShape(name=name or folder.name, fingerprint=mark, layers=layers, width=width)
