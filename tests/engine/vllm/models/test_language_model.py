"""What vLLM is told to load of a multimodal checkpoint: the language model alone, under the names that it has there."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

from ampsweep.folders.weights import language_model_weight
from benchmarks.models.families import LAYERS, Family
from benchmarks.models.multimodal import WRAPPERS
from engine.vllm.models.language_model import LOAD_FORMAT, language_model_arguments

MULTIMODAL = [family for family in get_args(Family) if family in WRAPPERS and family != "mistral3_moe"]
"""Without the one that vLLM has no code for."""
TEXT_MODELS = {
    "qwen2_vl": "qwen2",
    "qwen2_5_vl": "qwen2",
    "qwen3_vl": "qwen3",
    "qwen3_vl_moe": "qwen3_moe",
    "glm4v": "glm4",
    "glm4v_moe": "glm4_moe",
}
"""Text models with the same weights, where Transformers has no class for the language model alone."""


@pytest.mark.parametrize("family", MULTIMODAL)
def test_the_renamed_weights_are_those_of_the_architecture(
    family: Family, model_folder: Callable[[Family], Path]
) -> None:
    folder = model_folder(family)
    arguments = language_model_arguments(folder)
    config = arguments["hf_overrides"](AutoConfig.from_pretrained(folder))
    assert (config.num_hidden_layers, arguments["load_format"]) == (LAYERS, LOAD_FORMAT)
    assert "mrope_section" not in config.rope_parameters
    names = {language_model_weight(name) for name in load_file(folder / "model.safetensors")} - {None}
    plain = TEXT_MODELS.get(family)
    text = AutoConfig.for_model(plain, **shape_of(config)) if plain else config
    text_model = AutoModelForCausalLM.from_config(text)
    assert config.architectures == [type(text_model).__name__]
    parameters = {name for name, _ in text_model.named_parameters()}
    buffers = {name for name in names if str(name).endswith(("layer_scalar", "e_score_correction_bias"))}
    assert without_experts(names) == without_experts(parameters | buffers)


def without_experts(names: set[Any]) -> set[str]:
    """Leave out the experts, which the classes and the checkpoints of a family join in different ways."""
    return {name for name in names if ".experts." not in name}


def shape_of(config: Any) -> dict[str, int]:
    """Return the settings that decide which weights a text model has."""
    names = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
    further = (
        "vocab_size",
        "pad_token_id",
        "attention_bias",
        "n_shared_experts",
        "first_k_dense_replace",
        "use_qk_norm",
    )
    return {name: getattr(config, name) for name in (*names, *further) if hasattr(config, name)}


@pytest.mark.parametrize(
    ("name", "text_name"),
    [
        ("model.language_model.layers.0.mlp.up_proj.weight", "model.layers.0.mlp.up_proj.weight"),
        ("language_model.model.embed_tokens.weight", "model.embed_tokens.weight"),
        ("language_model.lm_head.weight", "lm_head.weight"),
        ("lm_head.weight", "lm_head.weight"),
        ("model.layers.3.input_layernorm.weight", "model.layers.3.input_layernorm.weight"),
        ("visual.blocks.0.mlp.down_proj.weight", None),
        ("model.vision_tower.transformer.layers.0.feed_forward.down_proj.weight", None),
        ("multi_modal_projector.linear_1.weight", None),
        ("model.text_model.layers.0.mlp.up_proj.weight", "model.layers.0.mlp.up_proj.weight"),
        ("model.connector.modality_projection.proj.weight", None),
        ("model.image_newline", None),
        ("mlp1.0.weight", None),
    ],
)
def test_weights_are_renamed_whichever_release_stored_them(name: str, text_name: str | None) -> None:
    assert language_model_weight(name) == text_name


@pytest.mark.parametrize(
    "family", ["janus", "deepseek_vl", "deepseek_vl_hybrid", "ovis2", "minicpmv4_6", "video_llava", "blip-2"]
)
def test_only_the_language_model_is_left_of_a_model_with_further_modules(family: str) -> None:
    config = AutoConfig.for_model(family)
    config.get_text_config().num_hidden_layers = 1
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config)
    names = {text_name for name, _ in model.named_parameters() if (text_name := language_model_weight(name))}
    assert any(".layers.0." in name for name in names)
    others = {name for name in names if not name.startswith(("model.layers.", "model.decoder.", "lm_head."))}
    assert others <= {"model.embed_tokens.weight", "model.norm.weight"}


def test_a_stored_head_is_used_whatever_the_config_says(model_folder: Callable[[Family], Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(model_folder("mistral3"), tmp_path / "model"))
    raw = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**raw, "tie_word_embeddings": True}))
    overrides = language_model_arguments(folder)["hf_overrides"]
    assert not overrides(AutoConfig.from_pretrained(folder)).tie_word_embeddings
    weights = load_file(folder / "model.safetensors")
    without_head = {name: weight for name, weight in weights.items() if not name.endswith("lm_head.weight")}
    save_file(without_head, folder / "model.safetensors", metadata={"format": "pt"})
    overrides = language_model_arguments(folder)["hf_overrides"]
    assert overrides(AutoConfig.from_pretrained(folder)).tie_word_embeddings


def test_a_text_model_is_loaded_as_it_is(model_folder: Callable[[Family], Path]) -> None:
    assert language_model_arguments(model_folder("gemma3_text")) == {}
    overrides = language_model_arguments(model_folder("gemma3"))["hf_overrides"]
    placeholder = AutoConfig.for_model("llama")
    assert overrides(placeholder) is placeholder
