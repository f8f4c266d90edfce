"""How the configuration of a vLLM engine is changed, and what the environment variables mean."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from ampsweep.errors import InvalidRequest, NotFound, SteeringNotInstalled, UnsupportedModel
from engine.vllm.plugin.configuration import configure, describe, is_steered, read_neurons, read_presets
from tests.engine.neuron_sets import make_neuron_set

CPU_WORKER = "vllm.v1.worker.cpu_worker.CPUWorker"
GPU_WORKER = "vllm.v1.worker.gpu_worker.Worker"
NEURONS = make_neuron_set({"fr": [(0, 1), (1, 5)], "tr": [(2, 0)]})


def parallel_config(worker: str = CPU_WORKER, **more: Any) -> Any:
    defaults = {"enable_dbo": False, "ubatch_size": 0, "prefill_context_parallel_size": 1, "tensor_parallel_size": 1}
    return SimpleNamespace(**{"worker_cls": worker, **defaults, **more})


def vllm_config(worker: str = CPU_WORKER, **more: Any) -> Any:
    parts: dict[str, Any] = {
        "additional_config": {"theirs": 1},
        "speculative_config": None,
        "cache_config": SimpleNamespace(kv_sharing_fast_prefill=False),
        "parallel_config": parallel_config(worker),
        "model_config": SimpleNamespace(
            model="models/tiny",
            runner_type="generate",
            architectures=["LlamaForCausalLM"],
            dtype="torch.bfloat16",
            max_model_len=64,
            get_hidden_size=lambda: 4,
            hf_text_config=SimpleNamespace(to_dict=lambda: {"num_hidden_layers": 3, "intermediate_size": 8}),
        ),
    }
    return SimpleNamespace(**parts | more)


@pytest.fixture(autouse=True)
def release(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Stand in for vLLM on a CPU; a test may change its version."""
    vllm: Any = ModuleType("vllm")
    vllm.__version__ = "0.32.0+cpu"
    platforms: Any = ModuleType("vllm.platforms")
    platforms.current_platform = SimpleNamespace(is_cpu=lambda: True)
    monkeypatch.setitem(sys.modules, "vllm", vllm)
    monkeypatch.setitem(sys.modules, "vllm.platforms", platforms)
    return vllm


def test_the_workers_become_the_steered_ones_with_their_options() -> None:
    config = vllm_config()
    assert not is_steered(config)
    configure(config, {"AMPSWEEP_SLOTS": "12"})
    assert is_steered(config)
    assert config.parallel_config.worker_cls == "engine.vllm.worker.cpu.SteeringCPUWorker"
    options = config.additional_config["ampsweep"]
    assert (options["slots"], options["backend"], config.additional_config["theirs"]) == (12, "cpu", 1)
    gpu = vllm_config(GPU_WORKER)
    configure(gpu, {})
    assert gpu.parallel_config.worker_cls == "engine.vllm.worker.gpu.SteeringGPUWorker"
    assert gpu.additional_config["ampsweep"]["slots"] == 256


def test_experts_are_unfused_if_the_environment_says_so_and_never_batch_invariant() -> None:
    for environment, expected in (({}, False), ({"AMPSWEEP_UNFUSED_EXPERTS": "1"}, True)):
        config = vllm_config(GPU_WORKER)
        configure(config, environment)
        assert config.additional_config["ampsweep"]["unfused_experts"] is expected
    with pytest.raises(InvalidRequest, match="no batch-invariant kernels; unset it, or unset VLLM_BATCH_INVARIANT"):
        configure(vllm_config(GPU_WORKER), {"AMPSWEEP_UNFUSED_EXPERTS": "1", "VLLM_BATCH_INVARIANT": "1"})


def test_the_products_own_engine_is_left_alone() -> None:
    config = vllm_config(additional_config={"ampsweep": {"slots": 3}})
    configure(config, {})
    assert config.additional_config == {"ampsweep": {"slots": 3}}
    assert config.parallel_config.worker_cls == CPU_WORKER
    assert not is_steered(config)


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"speculative_config": object()}, "speculative_config"),
        ({"cache_config": SimpleNamespace(kv_sharing_fast_prefill=True)}, "kv_sharing_fast_prefill"),
        ({"parallel_config": parallel_config(enable_dbo=True)}, "enable_dbo"),
        ({"parallel_config": parallel_config(ubatch_size=2)}, "ubatch_size"),
        ({"parallel_config": parallel_config(prefill_context_parallel_size=2)}, "prefill_context_parallel_size"),
        ({"parallel_config": parallel_config("my.Worker")}, "worker_cls"),
        ({"model_config": SimpleNamespace(runner_type="pooling")}, "runner"),
        ({"additional_config": object()}, "additional_config"),
    ],
)
def test_options_that_cannot_be_combined_with_steering_are_refused(more: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest, match="leave") as refused:
        configure(vllm_config(**more), {})
    assert refused.value.param == param


@pytest.mark.parametrize("version", ["0.25.1", "0.33.0"])
def test_a_release_that_was_never_tested_is_refused_unless_it_is_allowed(version: str, release: Any) -> None:
    release.__version__ = version
    with pytest.raises(SteeringNotInstalled, match=r"never tested|0\.32\.0"):
        configure(vllm_config(), {})
    configure(vllm_config(), {"AMPSWEEP_ALLOW_UNTESTED_VLLM": "1"})


@pytest.mark.parametrize("slots", ["0", "-1", "many", "1.5"])
def test_slots_must_be_a_whole_number(slots: str) -> None:
    with pytest.raises(InvalidRequest, match="AMPSWEEP_SLOTS"):
        configure(vllm_config(), {"AMPSWEEP_SLOTS": slots})


def test_the_model_is_described_by_its_config() -> None:
    info = describe(vllm_config())
    assert (info.model, info.layers, info.width, info.hidden_size, info.dtype) == ("tiny", 3, 8, 4, "bfloat16")
    nothing = SimpleNamespace(model="odd", hf_text_config=SimpleNamespace(to_dict=dict))
    with pytest.raises(UnsupportedModel, match="odd cannot be steered"):
        describe(vllm_config(model_config=nothing))


def test_neurons_are_read_from_a_set_or_from_a_file(tmp_path: Path) -> None:
    info = describe(vllm_config())
    NEURONS.save(tmp_path / "set")
    assert read_neurons(info, {"AMPSWEEP_NEURONS": str(tmp_path / "set")}).id == NEURONS.id
    file = tmp_path / "neurons.json"
    file.write_text('{"fr": {"0": [1], "1": [5]}}')
    neurons = read_neurons(info, {"AMPSWEEP_NEURONS": str(file)})
    assert neurons.neurons["fr"].tolist() == [[0, 1], [1, 5]]
    assert neurons.id == read_neurons(info, {"AMPSWEEP_NEURONS": str(file)}).id, "every process reads the same set"


def test_neurons_that_do_not_fit_or_do_not_exist_are_refused(tmp_path: Path) -> None:
    info = describe(vllm_config())
    make_neuron_set({"fr": [(0, 1)]}, width=16).save(tmp_path / "wide")
    with pytest.raises(InvalidRequest, match=r"AMPSWEEP_NEURONS: .* has 3 layers"):
        read_neurons(info, {"AMPSWEEP_NEURONS": str(tmp_path / "wide")})
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotFound, match="no neuron set"):
        read_neurons(info, {"AMPSWEEP_NEURONS": str(tmp_path / "empty")})
    with pytest.raises(InvalidRequest, match=r"AMPSWEEP_NEURONS: .*absent"):
        read_neurons(info, {"AMPSWEEP_NEURONS": str(tmp_path / "absent.json")})


def test_presets_are_interventions_by_name(tmp_path: Path) -> None:
    assert read_presets({}) == {}
    file = tmp_path / "presets.yaml"
    file.write_text("more-french: {languages: [fr], op: scale, factor: 3}\n")
    presets = read_presets({"AMPSWEEP_PRESETS": str(file)})
    assert presets["more-french"].factor == 3.0
    for text, says in (
        ("more-french: {languages: [fr], op: scale}\n", r"AMPSWEEP_PRESETS: more-french"),
        ("'{x': {languages: [fr], op: scale, factor: 3}\n", "cannot be a preset's name"),
        ("3: {languages: [fr], op: scale, factor: 3}\n", "cannot be a preset's name"),
    ):
        file.write_text(text)
        with pytest.raises(InvalidRequest, match=says) as refused:
            read_presets({"AMPSWEEP_PRESETS": str(file)})
        assert refused.value.param == "AMPSWEEP_PRESETS"
