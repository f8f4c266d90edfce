"""Formats of quantized weights are read from configs, and a checkpoint that lacks a part of a weight is rejected."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import pytest
from safetensors.torch import load_file, save_file

from ampsweep.errors import InvalidRequest, UnsupportedModel
from ampsweep.folders.weights import weight_bytes
from benchmarks.models.quantized import Format, quantized_model
from engine.checkpoint import check_checkpoint, read_quantization
from engine.hf.engine import TransformersEngine
from engine.hf.estimate import estimate_model
from engine.quantization import Quantization

WEIGHTS = "model.safetensors"
DESCRIBED: dict[Format, str] = {
    "int8": "compressed-tensors (8-bit integers, 8-bit inputs)",
    "fp8": "compressed-tensors (8-bit floats, 8-bit inputs)",
    "fp8_tensor": "FP8 (8-bit floats, 8-bit inputs)",
    "int4": "compressed-tensors (4-bit integers in groups of 32)",
    "awq": "AWQ (4-bit integers in groups of 32)",
    "gptq": "GPTQ (4-bit integers in groups of 32)",
}


@pytest.mark.parametrize("form", get_args(Format))
def test_a_complete_checkpoint_passes_and_one_without_a_part_of_a_weight_is_rejected(
    form: Format, tmp_path: Path
) -> None:
    """Without the check, vLLM would leave the missing part as uninitialized memory."""
    folder, _ = quantized_model(form, tmp_path)
    assert str(read_quantization(folder)) == DESCRIBED[form]
    check_checkpoint(folder)
    weights = load_file(folder / WEIGHTS)
    scales = next(name for name in weights if ".layers.1.mlp.up_proj." in name and "scale" in name)
    save_file({name: tensor for name, tensor in weights.items() if name != scales}, folder / WEIGHTS)
    with pytest.raises(InvalidRequest, match=r"lacks weights of its model: model\.layers\.1\.mlp\.up_proj\.weight"):
        check_checkpoint(folder)


def test_parts_of_a_weight_that_the_model_does_not_have_are_rejected(tmp_path: Path) -> None:
    folder, _ = quantized_model("gptq", tmp_path)
    weights = load_file(folder / WEIGHTS)
    more = {"model.layers.0.mlp.more_proj.qweight": weights["model.layers.0.mlp.up_proj.qweight"].clone()}
    save_file({**weights, **more}, folder / WEIGHTS)
    with pytest.raises(InvalidRequest, match=r"do not belong to its model: model\.layers\.0\.mlp\.more_proj\.qweight"):
        check_checkpoint(folder)


def test_the_transformers_engine_says_that_it_does_not_load_quantized_weights(tmp_path: Path) -> None:
    folder, rounded = quantized_model("awq", tmp_path)
    with pytest.raises(UnsupportedModel, match=r"transformers engine .* AWQ \(4-bit .*; use --engine vllm") as caught:
        TransformersEngine(folder)
    assert caught.value.param == "model"
    TransformersEngine(rounded)


@pytest.mark.parametrize("form", ["int8", "awq"])
def test_the_estimate_counts_the_bytes_of_quantized_weights(form: Format, tmp_path: Path) -> None:
    """The estimate knows the config alone; the files have zero points and 32-bit scales besides."""
    folder, rounded = quantized_model(form, tmp_path)
    estimate = estimate_model(folder)
    assert estimate.quantization == read_quantization(folder)
    stored = weight_bytes(folder, dtype="bfloat16")
    assert stored * 0.93 < estimate.weight_bytes(2) <= stored
    assert estimate.weight_bytes(2) < 0.7 * estimate_model(rounded).weight_bytes(2)


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ({}, None),
        ({"quantization_config": {"quant_method": "mxfp4"}}, "mxfp4"),
        ({"text_config": {"quantization_config": {"quant_method": "bitsandbytes"}}}, "bitsandbytes"),
        (
            {"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}},
            "FP8 (8-bit floats in blocks, 8-bit inputs)",
        ),
        (
            {"quantization_config": {"quant_method": "gptq", "bits": 8, "group_size": -1, "desc_act": True}},
            "GPTQ (8-bit integers)",
        ),
    ],
)
def test_a_config_says_how_weights_are_quantized(section: dict[str, Any], expected: str | None) -> None:
    quantization = Quantization.of_config(section)
    assert expected == (None if quantization is None else str(quantization))


def test_modules_are_left_out_by_a_part_of_their_name_or_by_a_pattern() -> None:
    quantization = Quantization(method="awq", skipped=("lm_head", r"re:.*layers\.0\..*"))
    assert quantization.skips("lm_head")
    assert quantization.skips("model.layers.0.mlp.up_proj")
    assert not quantization.skips("model.layers.10.mlp.up_proj")


def test_an_incomplete_config_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"quantization_config": {"quant_method": "gptq", "bits": 4}}))
    with pytest.raises(InvalidRequest, match="quantization_config of method 'gptq' is incomplete: KeyError"):
        read_quantization(tmp_path)
