"""The estimate of a model from its config is that of the loaded model; models that cannot be steered are named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, MambaConfig, MixtralConfig

from ampsweep.bundled import ATLAS_MODEL
from ampsweep.domain.neurons.layer_widths import LayerWidths
from ampsweep.errors import InvalidRequest, UnsupportedModel
from benchmarks.models.families import tiny_config
from engine.hf.estimate import estimate_model, measure_speed


def test_a_config_alone_gives_what_the_loaded_model_has(tmp_path: Path) -> None:
    shutil.copy(ATLAS_MODEL / "config.json", tmp_path)
    estimate = estimate_model(tmp_path)
    model = AutoModelForCausalLM.from_pretrained(ATLAS_MODEL)
    config = model.config
    assert estimate.model_class == type(model).__name__
    assert (estimate.widths.layers, estimate.widths.width) == (config.num_hidden_layers, config.intermediate_size)
    assert estimate.parameters == model.num_parameters()
    head_size = config.hidden_size // config.num_attention_heads
    assert estimate.kv_values == 2 * config.num_hidden_layers * config.num_key_value_heads * head_size


def test_a_layer_of_experts_has_the_neurons_of_all(tmp_path: Path) -> None:
    MixtralConfig(num_hidden_layers=2, hidden_size=64, intermediate_size=48, num_local_experts=4).save_pretrained(
        tmp_path
    )
    assert estimate_model(tmp_path).widths == LayerWidths(2, 4 * 48)


def test_a_model_that_cannot_be_steered_is_refused_by_its_class(tmp_path: Path) -> None:
    MambaConfig(num_hidden_layers=1, hidden_size=64).save_pretrained(tmp_path)
    with pytest.raises(UnsupportedModel, match="MambaForCausalLM cannot be steered"):
        estimate_model(tmp_path)


def test_an_unknown_model_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "invented"}))
    with pytest.raises(
        InvalidRequest, match=r"cannot build a language model from its config\.json: .*invented"
    ) as caught:
        estimate_model(tmp_path)
    assert caught.value.param == "model"
    assert "\n" not in caught.value.message


def test_an_error_in_the_code_of_a_model_is_refused_in_one_line(tmp_path: Path) -> None:
    text = {"model_type": "llama", "vocab_size": 10, "pad_token_id": 128_002}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "idefics3", "text_config": text}))
    with pytest.raises(InvalidRequest, match=r"from its config\.json: Padding_idx must be within num_embeddings"):
        estimate_model(tmp_path)


def test_the_speed_of_this_machine_is_measured() -> None:
    speed = measure_speed("float32", seconds=0.1)
    assert speed.bytes > 1e8
    assert speed.flops > 1e8


def test_heads_that_differ_between_layers_are_counted_in_each(tmp_path: Path) -> None:
    config = tiny_config("gemma4_text")
    config.per_layer_config = {1: {"head_dim": 64}, 2: {"head_dim": 64}}  # the full attention
    config.save_pretrained(tmp_path)
    assert estimate_model(tmp_path).kv_values == 2 * 2 * (32 + 64 + 64)  # keys and values of two heads
