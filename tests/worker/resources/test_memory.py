"""The memory that engines will allocate, from their files' headers, and the rejection of what cannot fit."""

from __future__ import annotations

import json
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from ampsweep.bundled import ATLAS_MODEL
from ampsweep.cli.app import app
from ampsweep.errors import InvalidRequest, Unavailable
from ampsweep.telemetry.context import Telemetry
from benchmarks.models.adapter import tiny_adapter
from engine.vllm.settings import VllmSettings
from jobs.planning.catalog import Catalog
from worker.engines import EngineSpec
from worker.pool.engine_session import WorkerConfig
from worker.pool.ray_actor import RayEngineActor
from worker.resources import control_groups, memory
from worker.resources.gpus import Gpu
from worker.resources.memory import (
    EngineMemory,
    available_memory,
    require_capacity,
    require_memory,
    total_memory,
)

GIB = 1024**3
BFLOAT16_FILE = 64 * 1024 * 2 + 3 * 4


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint of 65,536 bfloat16 numbers and three whole ones."""
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text(json.dumps({"num_hidden_layers": 2, "intermediate_size": 8}))
    (model / "tokenizer.json").write_text("{}")
    tensors = {"a": torch.zeros(64, 1024, dtype=torch.bfloat16), "b": torch.zeros(3, dtype=torch.int32)}
    save_file(tensors, model / "model.safetensors")
    return model


@pytest.mark.parametrize(
    ("dtype", "size"),
    [("float32", 2 * BFLOAT16_FILE - 3 * 4), ("bfloat16", BFLOAT16_FILE), ("float16", BFLOAT16_FILE)],
)
def test_weights_are_counted_in_the_dtype_that_is_loaded(folder: Path, dtype: str, size: int) -> None:
    spec = EngineSpec(model="m", folder=folder, kind="transformers", dtype=dtype, count=3)
    engine_memory = EngineMemory.of(spec)
    assert (engine_memory.weights, engine_memory.kv_cache) == (3 * size, 0)
    assert engine_memory.total == 3 * (size + memory.PROCESS_BYTES)


def test_vllm_loads_no_vision_tower(folder: Path) -> None:
    names = ("language_model.layers.0.mlp.up_proj", "vision_tower.layers.0.mlp.fc1", "multi_modal_projector.linear")
    save_file({f"model.{name}.weight": torch.zeros(10) for name in names}, folder / "model.safetensors")
    for kind, numbers in (("vllm", 10), ("transformers", 30)):
        assert EngineMemory.of(EngineSpec(model="m", folder=folder, kind=kind), gpu=False).weights == 4 * numbers


def test_adapters_are_counted_and_one_of_another_model_is_refused(tmp_path: Path) -> None:
    adapter, _ = tiny_adapter(ATLAS_MODEL, tmp_path, targets=["q_proj", "o_proj"], seed=1)
    spec = EngineSpec(model="atlas", folder=ATLAS_MODEL, vllm=VllmSettings(adapters={"formal": adapter}), count=2)
    plain = EngineMemory.of(replace(spec, vllm=VllmSettings()), gpu=False)
    adapted = EngineMemory.of(spec, gpu=False)
    # 2 slots of rank 8 in 4 layers with inputs of 128: q, k and v, which vLLM joins, and o; and the adapter of rank 4.
    projections = (128 + 128) + 2 * (128 + 64) + (128 + 128)
    assert adapted.adapters == 2 * 4 * 4 * (2 * 8 * projections + 4 * 2 * (128 + 128))
    assert adapted.total == plain.total + adapted.adapters
    assert "adapters 0.0 GiB" in str(adapted)
    assert EngineMemory.of(replace(spec, kind="transformers"), gpu=False).adapters == 0
    with pytest.raises(InvalidRequest, match=r"adapter formal .* in model; use an adapter of this model"):
        require_memory([replace(spec, folder=other_model(tmp_path / "model"))], gpu=False)


def other_model(folder: Path) -> Path:
    """Write the projections of the atlas with other shapes."""
    folder.mkdir()
    names = [f"model.layers.{layer}.self_attn.{name}_proj.weight" for layer in range(4) for name in "qkvo"]
    save_file({name: torch.zeros(3, 2) for name in names}, folder / "model.safetensors")
    return folder


def test_vllm_on_a_cpu_has_a_cache_too_and_on_a_gpu_takes_nothing_here(folder: Path) -> None:
    spec = EngineSpec(model="m", folder=folder, vllm=VllmSettings(kv_cache_bytes=5))
    assert EngineMemory.of(spec, gpu=False).kv_cache == 5
    assert EngineMemory.of(EngineSpec(model="m", folder=folder), gpu=False).kv_cache == GIB
    assert EngineMemory.of(spec, gpu=True).total == 0
    assert EngineMemory.of(EngineSpec(model="m", folder=folder, kind="fake")).total == 0


def test_what_does_not_fit_is_refused_with_its_parts_and_the_remedy(folder: Path) -> None:
    specs = [EngineSpec(model="m", folder=folder, count=2)]
    needed = EngineMemory.of(specs[0], gpu=False).total
    require_memory(specs, available=needed, gpu=False)
    with pytest.raises(
        InvalidRequest,
        match=r"not enough memory: 3\.0 GiB .*m x 2 engines: weights in float32 0\.0 GiB, KV cache 2\.0 GiB.*bfloat16",
    ) as refused:
        require_memory(specs, available=needed - 1, gpu=False)
    assert refused.value.param == "dtype"
    half = [EngineSpec(model="m", folder=folder, dtype="bfloat16")]
    with pytest.raises(InvalidRequest, match=r"load a smaller model or fewer engines") as refused:
        require_memory(half, available=0, gpu=False)
    assert "--dtype" not in refused.value.message


@pytest.fixture
def gpu_machine(monkeypatch: pytest.MonkeyPatch) -> list[Gpu]:
    """A machine with GPUs of these sizes in MiB, which a test may change."""
    gpu_list = [Gpu(name="H200", driver="1", total=total, free=0) for total in (1, 4)]
    monkeypatch.setattr(memory, "gpus", lambda: gpu_list)
    return gpu_list


def test_weights_that_fit_into_no_gpu_are_refused(gpu_machine: list[Gpu], tmp_path: Path) -> None:
    weights = {"a": torch.zeros(1024, 1024, dtype=torch.bfloat16)}  # 2 MiB, and 4 in float32
    (tmp_path / "config.json").write_text(json.dumps({"num_hidden_layers": 2, "intermediate_size": 8}))
    save_file(weights, tmp_path / "model.safetensors")
    spec = EngineSpec(model="m", folder=tmp_path, dtype="bfloat16")
    assert require_memory([spec], available=0, gpu=True) == ()
    assert (
        require_memory(
            [replace(spec, dtype="float32", vllm=VllmSettings(tensor_parallel_size=2))], available=0, gpu=True
        )
        == ()
    )
    reason = r"not enough GPU memory: model m .* in float32.*--dtype bfloat16"
    with pytest.raises(InvalidRequest, match=reason) as refused:
        require_memory([replace(spec, dtype="float32")], available=0, gpu=True)
    assert refused.value.param == "dtype"
    gpu_machine.clear()
    (warning,) = require_memory([replace(spec, dtype="float32")], available=0, gpu=True)
    assert "not checked whether m fits into GPU memory" in warning


def test_engines_never_share_a_gpu_and_reserve_no_more_than_there_are(gpu_machine: list[Gpu], folder: Path) -> None:
    alone = EngineSpec(model="m", folder=folder, dtype="bfloat16")
    own = replace(alone, gpus=1.0)
    require_memory([alone], available=0, gpu=True)
    require_memory([own, replace(own, model="n")], available=0, gpu=True)
    for specs in ([replace(alone, count=2)], [own, alone], [replace(own, gpus=0.5, count=2)]):
        with pytest.raises(InvalidRequest, match=r"share a GPU.* takes 90% .*set `gpus: 1` .*--no-atlas") as refused:
            require_memory(specs, available=0, gpu=True)
        assert refused.value.param == "models"
    require_memory([replace(own, gpus=2, vllm=VllmSettings(tensor_parallel_size=2))], available=0, gpu=True)
    with pytest.raises(InvalidRequest, match=r"reserve 3 GPUs \(m 1, n 2\), and this machine has 2, so that some"):
        require_memory([own, replace(own, model="n", count=2)], available=0, gpu=True)
    gpu_machine.clear()  # the driver does not list them
    require_memory([replace(own, count=9)], available=0, gpu=True)
    require_memory([replace(alone, kind="transformers", count=2)], available=4 * GIB, gpu=True)


def test_a_reserved_gpu_that_no_machine_has_is_an_error_and_not_a_start_without_end(folder: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"reserve 1 GPUs .* this machine has none.*reduce"):
        require_memory([EngineSpec(model="m", folder=folder, kind="fake", gpus=1)], gpu=False)


def test_an_engine_in_a_cluster_is_compared_with_all_memory_of_its_machine(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = EngineSpec(model="m", folder=folder, kind="transformers", count=9)
    needed = EngineMemory.of(replace(spec, count=1)).total
    monkeypatch.setattr(memory, "available_memory", lambda: 0)  # in use, which other processes may free
    monkeypatch.setattr(memory, "total_memory", lambda: needed)
    assert require_capacity(spec) == ()
    monkeypatch.setattr(memory, "total_memory", lambda: needed - 1)
    with pytest.raises(InvalidRequest, match=rf"not enough memory on {socket.gethostname()}: .*--dtype bfloat16"):
        require_capacity(spec)


def test_the_total_is_the_machines_or_the_containers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_groups, "CGROUPS", tmp_path)
    monkeypatch.setattr(control_groups, "OWN_GROUPS", tmp_path / "none")
    whole = total_memory()
    assert whole >= available_memory() > 0
    (tmp_path / "memory.max").write_text("max\n")
    assert total_memory() == whole
    (tmp_path / "memory.max").write_text("4096\n")
    assert total_memory() == 4096


@pytest.mark.anyio
async def test_an_actor_refuses_what_its_machine_cannot_hold(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "total_memory", lambda: 1024)
    config = WorkerConfig(
        catalog=Catalog(models={}), neurons=str(tmp_path / "neurons"), results=str(tmp_path / "results")
    )
    actor = RayEngineActor(EngineSpec(model="m", folder=folder, kind="transformers"), config, Telemetry())
    with pytest.raises(InvalidRequest, match="not enough memory on"):
        await actor.open()


def test_serve_says_what_it_does_not_check_in_a_cluster(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(*_: object, **__: object) -> None:
        raise Unavailable("the memory was checked before anything starts")

    monkeypatch.setattr(Telemetry, "start", start)
    monkeypatch.setattr(memory, "available_memory", lambda: 0)
    arguments = ["serve", "--model", f"m={folder}", "--no-atlas", "--home", str(tmp_path / "home"), "--port", "0"]
    result = CliRunner().invoke(app, [*arguments, "--engine", "transformers", "--ray-address", "10.0.0.1:6379"])
    assert result.exit_code == 5, result.output
    assert "warning: the engines load on the machines of the Ray cluster at 10.0.0.1:6379" in result.stderr


def test_the_limit_on_the_address_space_counts_with_the_libraries(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    specs = [EngineSpec(model="m", folder=folder, kind=kind, count=2) for kind in ("vllm", "transformers")]
    for spec in specs:
        one = EngineMemory.of(replace(spec, count=1), gpu=False).total + memory.LIBRARY_ADDRESSES[spec.kind]
        for limit in (None, one):
            monkeypatch.setattr(memory, "address_space", lambda limit=limit: limit)
            assert require_memory([spec], available=100 * GIB, gpu=False) == ()
        monkeypatch.setattr(memory, "address_space", lambda limit=one: limit - 1)
        with pytest.raises(InvalidRequest, match=r"not enough address space: .*ulimit -v unlimited") as refused:
            require_memory([spec], available=100 * GIB, gpu=False)
        assert refused.value.param == "dtype"


@pytest.mark.parametrize(
    "command",
    [
        ("generate", "Hello", "--model", "{model}"),
        ("batch", "{rows}", "{out}.parquet", "--model", "{model}"),
        ("identify", "--model", "{model}", "--corpus", "atlas", "--out", "{out}"),
        ("run", "{spec}", "--out", "{out}"),
        ("serve", "--model", "m={model}", "--no-atlas", "--home", "{out}", "--port", "0"),
    ],
)
def test_every_command_refuses_before_it_loads(
    command: tuple[str, ...], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in.jsonl").write_text('{"custom_id": "a", "kind": "generate", "prompt": "a"}\n')
    spec: dict[str, Any] = {
        "name": "s",
        "model": str(folder),
        "neurons": {"method": "lape", "corpus": "atlas", "languages": ["en", "fr", "tr"]},
        "interventions": {"languages": ["fr"], "op": "scale", "factors": [2]},
        "tasks": [{"name": "lss", "languages": ["en"], "limit": 1}],
    }
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    paths = {"model": folder, "rows": tmp_path / "in.jsonl", "spec": tmp_path / "spec.json", "out": tmp_path / "out"}
    monkeypatch.setattr(memory, "available_memory", lambda: 1024)
    arguments = [part.format(**paths) for part in command]
    result = CliRunner().invoke(app, [*arguments, "--engine", "transformers"])
    assert result.exit_code == 2, result.output
    assert "not enough memory" in result.stderr
    assert "choose --dtype bfloat16" in result.stderr
