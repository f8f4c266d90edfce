"""What `ampsweep doctor --model` says about a model that is neither downloaded nor loaded."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from transformers import AutoConfig

from ampsweep.bundled import ATLAS_MODEL
from ampsweep.cli.checks.model import model
from benchmarks.models.adapter import tiny_adapter
from engine.vllm.models.quantization import CpuKernels
from worker.resources import memory
from worker.resources.gpus import Gpu


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ampsweep.cli.checks.model.MEASURE_SECONDS", 0.1)


def test_the_config_is_enough(tmp_path: Path) -> None:
    shutil.copy(ATLAS_MODEL / "config.json", tmp_path)
    steerable, needs, speed = model(str(tmp_path), dtype="float32")
    assert [finding.state for finding in (steerable, needs, speed)] == ["ok"] * 3
    assert steerable.detail == "Qwen2ForCausalLM can be steered: 4 layers of 1024 neurons, 2.4 million weights"
    assert "KV cache 1.0 on a CPU (524,288 tokens)" in needs.detail
    assert "rough, within a factor of 3" in speed.detail


@pytest.mark.parametrize(
    ("missing", "reason"),
    [("tokenizer", "has no tokenizer; add the tokenizer files"), ("model.safetensors", "it has no *.safetensors file")],
)
def test_the_files_of_a_downloaded_model_are_complete(missing: str, reason: str, tmp_path: Path) -> None:
    for path in ATLAS_MODEL.iterdir():
        if not path.name.startswith(missing):
            (tmp_path / path.name).symlink_to(path)
    (files,) = [found for found in model(str(tmp_path), dtype="float32") if found.subject == "model files"]
    assert files.state == "bad"
    assert reason in files.detail


def test_adapters_are_part_of_the_memory_and_checked(tmp_path: Path) -> None:
    adapter, _ = tiny_adapter(ATLAS_MODEL, tmp_path, targets=["down_proj"], seed=1)
    (tmp_path / "model").mkdir()
    shutil.copy(ATLAS_MODEL / "config.json", tmp_path / "model")
    _, needs, _ = model(str(tmp_path / "model"), dtype="float32", adapters=[adapter])
    assert "adapters 0.00, KV cache" in needs.detail
    config = json.loads((ATLAS_MODEL / "config.json").read_text())
    shallow = {**config, "num_hidden_layers": 3, "layer_types": config["layer_types"][:3]}
    (tmp_path / "model" / "config.json").write_text(json.dumps(shallow))
    (finding,) = model(str(tmp_path / "model"), dtype="float32", adapters=[adapter])
    assert finding.state == "bad"
    assert "adapter adapter cannot be used: " in finding.detail
    assert "has no model.layers.3.mlp.down_proj" in finding.detail


@pytest.mark.parametrize(
    ("model_type", "dtype", "gpus", "reason"),
    [
        ("olmo_hybrid", "bfloat16", 0, "vLLM cannot run olmo_hybrid here: its linear attention needs a GPU"),
        ("qwen3_5_text", "float32", 0, "use --dtype bfloat16, or --engine transformers"),
        ("xglm", "bfloat16", 0, "vLLM cannot run xglm here: it has no code for it"),
        ("mixtral", "bfloat16", 1, "vLLM cannot run mixtral here: on a GPU vLLM computes its experts"),
    ],
)
def test_doctor_rejects_what_vllm_rejects_at_its_start(
    model_type: str, dtype: str, gpus: int, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.resources.gpus.gpus", lambda: [Gpu(name="H200", driver="1", total=1, free=1)] * gpus)
    monkeypatch.setattr("ampsweep.cli.checks.software.installed", lambda _name: None)
    AutoConfig.for_model(model_type).save_pretrained(tmp_path)
    (finding,) = model(str(tmp_path), dtype=dtype)
    assert finding.state == "bad"
    assert reason in finding.detail


def test_a_model_that_does_not_fit_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available_memory", lambda: 1024**3)
    _, needs, _ = model("atlas", dtype="float32")
    assert (needs.state, needs.remedy) == ("bad", "choose --dtype bfloat16, or a smaller model")


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"model_type": "mamba", "num_hidden_layers": 1}, "MambaForCausalLM cannot be steered"),
        ({"model_type": "t5"}, "Transformers cannot build a language model"),
        (
            {"model_type": "zaya", "num_hidden_layers": 2, "num_experts": 4},
            "mixtures of experts of type zaya are not supported",
        ),
        (None, "give a folder with a config.json, or a model of the Hub"),
    ],
)
def test_a_model_that_cannot_be_steered_gets_its_reason(config: object, reason: str, tmp_path: Path) -> None:
    if config is not None:
        (tmp_path / "config.json").write_text(json.dumps(config))
    (finding,) = model(str(tmp_path), dtype="float32")
    assert finding.state == "bad"
    assert reason in finding.detail


@pytest.mark.parametrize(
    ("dtype", "states", "detail"),
    [
        ("bfloat16", ["ok"] * 3, "1.8 million of them quantized with AWQ (4-bit integers in groups of 128)"),
        ("float32", ["bad"], "choose --dtype bfloat16"),
    ],
)
def test_a_quantized_model_is_described_or_refused(
    dtype: str, states: list[str], detail: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernels = CpuKernels(int4=True, int8=True, amx=False)
    monkeypatch.setattr(CpuKernels, "of_this_machine", lambda: kernels)
    config = json.loads((ATLAS_MODEL / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True}
    (tmp_path / "config.json").write_text(json.dumps(config))
    findings = model(str(tmp_path), dtype=dtype)
    assert [finding.state for finding in findings] == states
    assert detail in findings[0].detail
