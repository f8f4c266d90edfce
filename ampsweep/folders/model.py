"""Reads the shape and the fingerprint of a model from its folder, without loading the model.

Works on `config.json`, the tokenizer's files and the safetensors files of a Hugging Face folder.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ampsweep.domain.neurons.layer_widths import LayerWidths, Width
from ampsweep.errors import InvalidRequest
from ampsweep.folders.experts import mixture_widths
from ampsweep.folders.hub_model import source_of
from ampsweep.folders.weights import safetensors_files, weight_files
from ampsweep.hashing import files_hash

CONFIG = "config.json"
_LAYERS = ("num_hidden_layers", "n_layer", "num_layers")
_WIDTH = ("shared_intermediate_size", "intermediate_size", "ffn_hidden_size", "ffn_dim", "n_inner")
_KINDS = ("layers_block_type", "layer_types", "hybrid_override_pattern")
"""Where a config of Nemotron-H gives the kind of each layer, in words or as characters of one word."""
_MLP_KINDS, _MOE_KINDS = ("mlp", "-"), ("moe", "E")
_FOUR_TIMES_HIDDEN = ("bloom", "falcon", "gpt2", "gpt_neo")  # model types whose config may omit the number of neurons
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


_TOKENIZER_FILES = ("tokenizer", "vocab", "spiece", "sentencepiece", "tekken", "merges")
_CONTEXT = ("max_position_embeddings", "n_positions", "n_ctx", "max_sequence_length", "seq_length")
_UNSCALED = ("default", "llama3", "longrope")
"""Types of rotary position embeddings with which a config gives the context as it is."""


@dataclass(frozen=True, kw_only=True)
class ModelFolder:
    """Name, fingerprint and shape of a model: the number of layers, and in `width` the neurons per layer.

    `source` is `organization/name@commit` for a model of the Hugging Face Hub, else None.
    """

    name: str
    fingerprint: str
    layers: int
    width: Width
    source: str | None = None

    @property
    def widths(self) -> LayerWidths:
        """The neurons of each layer."""
        return LayerWidths(self.layers, self.width)


def fingerprint(folder: Path) -> str:
    """Return a hash (64 hex digits) of all files that can change the output of a model.

    These are all files of the folder and of its folder of chat templates, except weights in other formats, texts about
    the model, the index of its weights and hidden files. The weights are read completely (about 2 GB a second), since
    two models may differ in a single row. Unchanged files are not read again.

    Raises:
        InvalidRequest: The folder holds no model.
    """
    if not (folder / CONFIG).is_file():
        raise InvalidRequest(f"{folder.name} is not a model folder: it needs {CONFIG} and *.safetensors", param="model")
    if not safetensors_files(folder):
        weight_files(folder)  # raises an error that says what the folder has instead
    templates = folder / _TEMPLATES
    paths = [*folder.iterdir(), *(templates.rglob("*") if templates.is_dir() else ())]
    return files_hash([path for path in paths if path.is_file() and _can_change_answers(path.name)], root=folder)


def read_model_folder(folder: Path, *, name: str | None = None) -> ModelFolder:
    """Read the fingerprint and the shape of a model.

    Args:
        folder: A folder in Hugging Face format.
        name: The name of the model; by default that of the folder.

    Raises:
        InvalidRequest: The folder holds no model, or its config does not give the shape.
    """
    digest = fingerprint(folder)
    widths = folder_widths(folder)
    return ModelFolder(
        name=name or folder.name,
        fingerprint=digest,
        layers=widths.layers,
        width=widths.width,
        source=source_of(folder),
    )


def check_tokenizer_files(folder: Path) -> None:
    """Check that a folder holds a tokenizer.

    Raises:
        InvalidRequest: It does not (param "model").
    """
    if not any(path.name.startswith(_TOKENIZER_FILES) or path.suffix == ".tiktoken" for path in folder.iterdir()):
        message = f"{folder.name} has no tokenizer; add the tokenizer files of the same model (tokenizer.json)"
        raise InvalidRequest(message, param="model")


def context_length(folder: Path) -> int | None:
    """Return the context of a model in tokens, as its config gives it; None where engines derive another one."""
    try:
        config: dict[str, Any] = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        config = {**config, **(config.get("text_config") or {})}
        rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
        ropes = [rope, *(part for part in rope.values() if isinstance(part, dict))]
        if any(part.get("rope_type", part.get("type", "default")) not in _UNSCALED for part in ropes):
            return None
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return None
    return next((config[key] for key in _CONTEXT if isinstance(config.get(key), int)), None)


def supports_chat(folder: Path) -> bool:
    """Return whether a model can be sent chats: whether its folder has a chat template that is used by default.

    A file that cannot be read has none; loading the model says what is wrong with it.
    """
    if (folder / "chat_template.jinja").is_file():
        return True
    for name in ("tokenizer_config.json", "chat_template.json"):
        try:
            template = json.loads((folder / name).read_text(encoding="utf-8"))["chat_template"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            continue
        if isinstance(template, list):  # several templates, each with a name
            template = any(isinstance(each, dict) and each.get("name") == "default" for each in template)
        if template:
            return True
    return False


def folder_widths(folder: Path) -> LayerWidths:
    """Return the number of neurons of each layer from the config in a model's folder.

    Raises:
        InvalidRequest: The config does not give them, or the model cannot be steered (param "model").
    """
    try:
        config: dict[str, Any] = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        return read_widths({**config, **(config.get("text_config") or {})})
    except (OSError, ValueError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        raise InvalidRequest(f"{CONFIG} of {folder.name}: {error}", param="model") from error


def read_widths(config: Mapping[str, Any]) -> LayerWidths:
    """Return the number of neurons of each layer from a config, whose keys depend on the model family.

    Raises:
        ValueError: The number of layers or of neurons is missing, or they do not fit together.
    """
    if (mixture := mixture_widths(config)) is not None:
        return mixture
    if config.get("model_type") == "nemotron_h":
        return _of_kinds(config)
    if config.get("model_type") == "lfm2":
        return LayerWidths.parse(config.get("num_hidden_layers"), _adjusted(config))
    layers = next((config[key] for key in _LAYERS if config.get(key)), None)
    width = next((config[key] for key in _WIDTH if config.get(key)), None)
    # Transformers documents None in `n_inner` as four times the hidden size; GPT-2's own config omits it.
    if width is None and ("n_inner" in config or config.get("model_type") in _FOUR_TIMES_HIDDEN):
        width = 4 * (config.get("hidden_size") or config.get("n_embd") or 0)
    if not layers or not width:
        raise ValueError(
            "config does not give the number of layers and of neurons, as num_hidden_layers and intermediate_size do"
        )
    widths = LayerWidths.parse(layers, width)
    return _double_wide(widths, config) if config.get("use_double_wide_mlp") else widths


def _of_kinds(config: Mapping[str, Any]) -> LayerWidths:
    """Return the widths of Nemotron-H, in which a layer is an MLP, has experts, or has neither."""
    kinds = next((config[key] for key in _KINDS if config.get(key)), ())
    widths = dict.fromkeys(_MLP_KINDS, config.get("intermediate_size"))
    if not set(kinds).isdisjoint(_MOE_KINDS):
        routed = config.get("n_routed_experts", 0) * config.get("moe_intermediate_size", 0)
        shared = config.get("n_shared_experts", 1) * config.get("moe_shared_expert_intermediate_size", 0)
        widths |= dict.fromkeys(_MOE_KINDS, routed + shared)
    return LayerWidths.parse(len(kinds), [widths.get(kind, 0) for kind in kinds])


def _adjusted(config: Mapping[str, Any]) -> object:
    """Return the width of LFM2's layers: two thirds of the configured one, scaled and rounded up, unless turned off."""
    width = config.get("block_ff_dim") or config.get("intermediate_size")
    if not isinstance(width, int) or not config.get("block_auto_adjust_ff_dim", True):
        return width
    width, multiple = int(2 * width / 3), config.get("block_multiple_of", 256)
    if (factor := config.get("block_ffn_dim_multiplier", 1.0)) is None:
        return width
    return multiple * -(-int(factor * width) // multiple)


def _double_wide(widths: LayerWidths, config: Mapping[str, Any]) -> LayerWidths:
    """Return twice the width in the last layers, which share keys and values with earlier ones, as in Gemma 4."""
    first = widths.layers - config.get("num_kv_shared_layers", 0)
    if first <= 0:
        return widths
    by_layer = [width * (2 if layer >= first else 1) for layer, width in enumerate(widths.by_layer)]
    return LayerWidths.parse(widths.layers, by_layer)


def _can_change_answers(name: str) -> bool:
    lower = name.lower()
    return not (
        lower.startswith((".", "consolidated", *_LEGAL))
        or lower.endswith((*_OTHER_WEIGHTS, *_ABOUT))
        or lower in _OF_TRAINING
    )
