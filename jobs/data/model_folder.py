"""What a model's folder says without being loaded: its number of layers, and a fingerprint of its files.

The fingerprint is the one the engines report for the same folder; a test holds the two together.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from ampsweep.errors import InvalidRequest
from jobs.data.hashing import files_hash

CONFIG = "config.json"
_TOKENIZER = ("tokenizer", "vocab", "merges", "special_tokens", "added_tokens")


@dataclass(frozen=True, kw_only=True)
class ModelFolder:
    """A model's `fingerprint` (64 hex digits over configs, tokenizer and weights) and its number of layers."""

    fingerprint: str
    layers: int


def read_model_folder(folder: Path) -> ModelFolder:
    """Read a Hugging Face folder; InvalidRequest (param `model`) where it holds no model."""
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        text = {**config, **config.get("text_config", {})}
        layers = int(text["num_hidden_layers"])
    except OSError as error:
        raise InvalidRequest(f"{folder.name} is no model folder: it has no readable {CONFIG}", param="model") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InvalidRequest(f"{CONFIG} of {folder.name} does not give num_hidden_layers", param="model") from error
    files = [path for path in folder.iterdir() if _decides_answers(path.name)]
    return ModelFolder(fingerprint=files_hash(files), layers=layers)


def _decides_answers(name: str) -> bool:
    return name in (CONFIG, "generation_config.json") or name.startswith(_TOKENIZER) or name.endswith(".safetensors")
