"""At its start an engine rejects models that it cannot steer; it also steers under torch.compile."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from transformers import MixtralConfig, MixtralForCausalLM

from ampsweep.errors import SteeringNotInstalled, UnsupportedModel
from benchmarks.tiny_models import tiny_model
from engine.base import ScoreRequest
from engine.vllm.engine import VllmEngine
from engine.vllm.launch import VllmSettings
from engine.vllm.release_test import release_test, split_prompts
from engine.vllm.versions import check_version, reported_version, untested_warning
from tests.engine.both_engines import both_engines

SMALL = VllmSettings(slots=4, max_num_seqs=8, kv_cache_bytes=64 * 1024**2, compile=False)


@pytest.mark.engine
def test_a_mixture_of_experts_is_rejected_with_its_class(tmp_path: Path) -> None:
    tiny_model("mistral", tmp_path)  # for the tokenizer
    config = MixtralConfig(
        vocab_size=300,
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        num_local_experts=2,
        max_position_embeddings=256,
        dtype="float32",
    )
    MixtralForCausalLM(config).save_pretrained(tmp_path)
    with pytest.raises(UnsupportedModel, match="MixtralForCausalLM cannot be steered"):
        asyncio.run(VllmEngine.open(tmp_path, settings=SMALL))


@pytest.mark.engine
def test_torch_compile_changes_no_answer(tmp_path: Path) -> None:
    with both_engines("qwen2", tmp_path / "model", replace(SMALL, compile=True)) as both:
        for steering in (None, both.steering(["fr"], "set", 2.0), both.steering(["tr"], "scale", -3.0, layers=[1])):
            request = ScoreRequest(context="the thing", continuation=" in the end", steering=steering)
            ours, reference = both.run(both.vllm.score(request)), both.run(both.reference.score(request))
            np.testing.assert_allclose(ours.logprobs, reference.logprobs, rtol=0, atol=1e-4)
        both.run(release_test(both.vllm, both.neurons, partial(split_prompts, both.vllm._loop)))


def test_only_tested_releases_start() -> None:
    check_version("0.32.0")
    check_version("0.32.0+cpu")
    check_version("0.25.1")
    check_version("0.33.1", allow_untested=True)
    remedy = r"vLLM 0.33.1 was never tested; install one of: 0.25.1, 0.32.0, or .* --allow-untested-vllm"
    with pytest.raises(SteeringNotInstalled, match=remedy):
        check_version("0.33.1")


def test_an_untested_release_is_named_in_a_warning_and_in_the_metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    for release, reported in (("0.32.0+cpu", "0.32.0+cpu"), ("0.33.1", "0.33.1 (untested)")):
        monkeypatch.setattr("engine.vllm.versions.version", {"vllm": release}.__getitem__)
        assert reported_version() == reported
    assert untested_warning("0.32.0+cpu") is None
    assert "0.33.1 was never tested with Ampsweep (tested: 0.25.1, 0.32.0)" in str(untested_warning("0.33.1"))
