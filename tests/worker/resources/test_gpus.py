"""GPUs as nvidia-smi reports them, and the weights that each of an engine's GPUs holds."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from ampsweep.bundled import ATLAS_MODEL
from benchmarks.models.adapter import tiny_adapter
from engine.vllm.settings import VllmSettings
from worker.engines import EngineSpec
from worker.resources.gpus import Gpu, gpus, read_gpus, weights_per_gpu

H200 = Gpu(name="NVIDIA H200", driver="570.86.10", total=143771, free=140000)


def test_the_output_of_nvidia_smi_is_parsed() -> None:
    text = "NVIDIA H200, 570.86.10, 143771, 140000\nNVIDIA H200, 570.86.10, 143771, 0\n"
    assert read_gpus(text) == [H200, replace(H200, free=0)]
    assert read_gpus("No devices were found\n") == []
    assert read_gpus("NVIDIA H200, 570.86.10, 143771, [N/A]\n") == [replace(H200, free=0)]


def test_vllm_uses_nine_tenths_of_a_gpu() -> None:
    assert replace(H200, total=1000).usable == 900 * 1024**2


@pytest.mark.parametrize("script", ["echo 'H200, 570.1, 1000, 900'", "exit 9"])
def test_a_driver_that_fails_reports_no_gpu(script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = tmp_path / "nvidia-smi"
    command.write_text(f"#!/bin/sh\n{script}\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert [gpu.total for gpu in gpus()] == ([1000] if "echo" in script else [])


def test_no_driver_means_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpus() == []


def test_weights_are_shared_by_the_gpus_of_an_engine(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"num_hidden_layers": 2, "intermediate_size": 8}))
    save_file({"a": torch.zeros(64, 1024, dtype=torch.bfloat16)}, tmp_path / "model.safetensors")
    spec = EngineSpec(model="m", folder=tmp_path, dtype="float32", count=3)
    assert weights_per_gpu(spec) == 64 * 1024 * 4
    shared = replace(spec, dtype="bfloat16", vllm=VllmSettings(tensor_parallel_size=2, pipeline_parallel_size=4))
    assert weights_per_gpu(shared) == 64 * 1024 * 2 // 8
    assert weights_per_gpu(replace(spec, folder=tmp_path / "none")) == 0


def test_each_gpu_has_room_for_the_adapters(tmp_path: Path) -> None:
    adapter, _ = tiny_adapter(ATLAS_MODEL, tmp_path, targets=["down_proj"], seed=1)
    spec = EngineSpec(model="atlas", folder=ATLAS_MODEL, vllm=VllmSettings(tensor_parallel_size=2), dtype="bfloat16")
    adapted = weights_per_gpu(replace(spec, vllm=replace(spec.vllm, adapters={"a": adapter}))) - weights_per_gpu(spec)
    assert adapted == 4 * 8 * (1024 + 128) * 2  # one slot of rank 8 in 4 layers
