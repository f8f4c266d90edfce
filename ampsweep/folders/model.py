"""What a model's folder says about it without loading it: its shape, and a fingerprint of its files.

Works on `config.json`, the tokenizer's files and the safetensors files of a Hugging Face folder.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ampsweep.errors import InvalidRequest
from ampsweep.folders.file_hashes import files_hash
from ampsweep.folders.hub_model import source_of
from ampsweep.folders.weights import safetensors_files, weight_files

CONFIG = "config.json"
_LAYERS = ("num_hidden_layers", "n_layer", "num_layers")
_WIDTH = ("intermediate_size", "ffn_hidden_size", "ffn_dim", "n_inner")
_FOUR_TIMES_HIDDEN = ("bloom", "falcon", "gpt2")  # what a model of this type has that says nothing else
_TEMPLATES = "additional_chat_templates"
_OTHER_WEIGHTS = (
    *(".bin", ".pt", ".pth", ".ckpt", ".gguf", ".ggml", ".onnx", ".msgpack", ".h5", ".tflite", ".mlmodel", ".npz"),
)
_ABOUT = (
    ".index.json",
    ".md",
    ".rst",
    ".pdf",
    ".html",
    ".ipynb",
    ".png",
    ".jpg",
    ".jpeg",
    ".gif",
    ".svg",
    ".webp",
    ".mp4",
    ".log",
)
_LEGAL = ("license", "licence", "notice", "copying", "use_policy", "usage_policy")
_OF_TRAINING = ("trainer_state.json", "all_results.json", "train_results.json", "eval_results.json")


@dataclass(frozen=True, kw_only=True)
class ModelFolder:
    """A model by name and fingerprint, with its number of layers and of neurons a layer.

    `source` is its `organization/name@commit` on the Hugging Face Hub, None for any other folder.
    """

    name: str
    fingerprint: str
    layers: int
    width: int
    source: str | None = None


def fingerprint(folder: Path) -> str:
    """Return 64 hex digits over the bytes of all that can change a model's answers.

    That is every file of the folder and of its chat templates' folder, but for weights in other formats, texts about
    the model, the index of its weights (which may only say what they hold) and hidden files. The weights are read whole
    (about 2 GB a second): two models may differ in one row only, when neurons were edited. Files that have not changed
    since are not read again. Raises InvalidRequest where the folder holds no model.
    """
    if not (folder / CONFIG).is_file():
        raise InvalidRequest(f"{folder.name} is no model folder: it needs {CONFIG} and *.safetensors", param="model")
    if not safetensors_files(folder):
        weight_files(folder)  # which says what the folder has instead
    templates = folder / _TEMPLATES
    paths = [*folder.iterdir(), *(templates.rglob("*") if templates.is_dir() else ())]
    return files_hash([path for path in paths if path.is_file() and _can_change_answers(path.name)], root=folder)


def read_model_folder(folder: Path, *, name: str | None = None) -> ModelFolder:
    """Read a model's shape from its config; it is called `name`, or as its folder is.

    Raises InvalidRequest where the folder holds no model or the config does not say the shape.
    """
    mark = fingerprint(folder)
    try:
        config: dict[str, Any] = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        layers, width = read_shape({**config, **config.get("text_config", {})})
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise InvalidRequest(f"{CONFIG} of {folder.name}: {error}", param="model") from error
    return ModelFolder(name=name or folder.name, fingerprint=mark, layers=layers, width=width, source=source_of(folder))


def read_shape(config: Mapping[str, Any]) -> tuple[int, int]:
    """Return the number of layers, and of neurons a layer, that a text model's config gives in its family's words.

    Raises ValueError, which says what is missing, also where layers differ in their number of neurons.
    """
    layers = next((config[key] for key in _LAYERS if config.get(key)), None)
    width = next((config[key] for key in _WIDTH if config.get(key)), None)
    if width is None and config.get("model_type") in _FOUR_TIMES_HIDDEN:
        width = 4 * (config.get("hidden_size") or config.get("n_embd") or 0)
    if not isinstance(layers, int) or not isinstance(width, int) or not width:
        raise ValueError(
            "config does not give one number of layers and one of neurons, as num_hidden_layers and "
            "intermediate_size do"
        )
    return layers, width


def _can_change_answers(name: str) -> bool:
    lower = name.lower()
    return not (
        lower.startswith((".", "consolidated", *_LEGAL))
        or lower.endswith((*_OTHER_WEIGHTS, *_ABOUT))
        or lower in _OF_TRAINING
    )
