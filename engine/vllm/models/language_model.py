"""Makes vLLM load the language model of a multimodal checkpoint as if it were a checkpoint of its own.

vLLM's classes of multimodal models need the libraries and the files of their image processor, even without images. The
language model alone needs neither. `engine.vllm.worker.model.language_model` loads its weights.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import transformers
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from ampsweep.folders.weights import read_header, weight_files
from engine.checkpoint import read_config

LOAD_FORMAT = "ampsweep_language_model"
"""The load format that `engine.vllm.worker.model.language_model` registers."""

_ARCHITECTURES = {
    "qwen2_vl_text": "Qwen2ForCausalLM",
    "qwen2_5_vl_text": "Qwen2ForCausalLM",
    "qwen3_vl_text": "Qwen3ForCausalLM",
    "qwen3_vl_moe_text": "Qwen3MoeForCausalLM",
    "glm4v_text": "Glm4ForCausalLM",
    "glm4v_moe_text": "Glm4MoeForCausalLM",
}
"""Language models without a text-only class in Transformers, by `model_type`, and what computes the same on text."""
_SETTINGS: dict[str, dict[str, Any]] = {
    "glm4v_text": {"attention_bias": True},
    "glm4v_moe_text": {"use_qk_norm": False},
}
"""Settings of these classes of vLLM that Transformers' configs of the language models do not have."""
_MROPE = ("mrope_section", "mrope_interleaved")
"""Settings of rotary embeddings for positions in images. In a text all parts of a position are equal: plain RoPE."""


def is_multimodal(config: Any) -> bool:
    """Return whether a config is that of a model that takes images and has a language model."""
    return type(config) in transformers.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING and config.get_text_config() is not config


def language_model_class(config: Any) -> str | None:
    """Return vLLM's class for the language model of a multimodal config alone; None if it has none."""
    model_type = config.get_text_config().model_type
    architecture: str | None = _ARCHITECTURES.get(model_type) or MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(model_type)
    return architecture


def language_model_arguments(folder: Path) -> dict[str, Any]:
    """Return vLLM's arguments that load only the language model of a multimodal checkpoint; none for another model."""
    config = read_config(folder)
    architecture = language_model_class(config) if is_multimodal(config) else None
    if architecture is None:
        return {}
    names = [name for path in weight_files(folder) for name in read_header(path)[1]]
    tied = not any(name.endswith("lm_head.weight") for name in names)
    return {
        "hf_overrides": partial(_language_model_config, architecture=architecture, tied=tied),
        "load_format": LOAD_FORMAT,
    }


def _language_model_config(config: Any, *, architecture: str, tied: bool) -> Any:
    """Return the config of the language model in a multimodal config; vLLM also asks for that of a placeholder."""
    text = config.get_text_config()
    if text is config:
        return config
    text.architectures = [architecture]
    text.update(_SETTINGS.get(text.model_type, {}))
    text.tie_word_embeddings = tied  # some configs say it only for the whole model, and some wrongly
    if isinstance(getattr(text, "rope_parameters", None), dict):
        text.rope_parameters = {name: value for name, value in text.rope_parameters.items() if name not in _MROPE}
    return text
