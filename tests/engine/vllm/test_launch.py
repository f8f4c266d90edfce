"""The start of vLLM with a stand-in: an engine that cannot be patched is shut down, unsupported modes rejected."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest

from ampsweep.bundled import ATLAS_MODEL
from ampsweep.errors import InvalidRequest, UnsupportedModel
from benchmarks.models.adapter import tiny_adapter
from engine.vllm.adapters import Adapters
from engine.vllm.launch import start_llm_engine
from engine.vllm.settings import RunnerName, VllmSettings


def stand_in(name: str, **attributes: object) -> ModuleType:
    module = ModuleType(name)
    vars(module).update(attributes)
    return module


class Platform:
    """A device as vLLM describes it."""

    def __init__(self, kind: str, capability: int = 0) -> None:
        self.kind, self.capability = kind, capability

    def is_cpu(self) -> bool:
        return self.kind == "cpu"

    def is_cuda(self) -> bool:
        return self.kind == "cuda"

    def has_device_capability(self, least: int) -> bool:
        return self.capability >= least

    def get_device_name(self) -> str:
        return "Quadro"

    def get_device_capability(self) -> str:
        return f"{self.capability // 10}.{self.capability % 10}"


class Launch:
    """Starts an engine on a stand-in for vLLM and logs what happens to it."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, platform: Platform) -> None:
        (folder / "config.json").write_text('{"model_type": "llama"}')
        (folder / "model.safetensors").touch()
        self.folder = folder
        self.log: list[str] = []
        self.patched: Callable[[object], None] = lambda _: None
        self.environment: dict[str, str] = {}
        self.arguments: dict[str, Any] = {}
        self.usage_context: object = None
        self.seen: set[str] = set()
        launch, log = self, self.log

        class Engine:
            def __init__(self) -> None:
                self.engine_core = self

            @classmethod
            def from_engine_args(cls, arguments: dict[str, Any], usage_context: object) -> Engine:
                launch.arguments, launch.usage_context = arguments, usage_context
                launch.seen = {path.name for path in Path(arguments["model"]).iterdir() if path.is_file()}
                log.append(f"started with {os.environ['VLLM_BATCH_INVARIANT']}")
                launch.environment = dict(os.environ)
                return cls()

            def shutdown(self) -> None:
                log.append("shutdown")

        modules: list[Any] = [
            stand_in("vllm", __version__="0.32.0", EngineArgs=dict, LLMEngine=Engine, envs=self),
            stand_in("vllm.platforms", current_platform=platform),
            stand_in("vllm.usage"),
            stand_in("vllm.usage.usage_lib", UsageContext=SimpleNamespace(OPENAI_API_SERVER="server")),
            stand_in("vllm.config", StructuredOutputsConfig=dict),
            stand_in("engine.vllm.interactive", prefer_interactive_requests=lambda engine: None),
            stand_in(
                "engine.vllm.patches",
                begin_texts_after_prompts=lambda: None,
                keep_request_ids=lambda engine: None,
                skip_logprob_texts=lambda: None,
                separate_switched_blocks=lambda engine: None,
                limit_prefix_reads=self._patch,
            ),
        ]
        for module in modules:
            monkeypatch.setitem(sys.modules, module.__name__, module)

    def _patch(self, engine: object) -> None:
        self.patched(engine)

    def disable_envs_cache(self) -> None:
        self.log.append("environment is read again")

    def start(self, settings: VllmSettings, *, dtype: str = "float32", environment: Mapping[str, str] = {}) -> None:
        with patch.dict(os.environ, {"VLLM_BATCH_INVARIANT": "1", **environment}):
            start_llm_engine(self.folder, dtype=dtype, settings=settings)


def test_all_structured_outputs_have_the_same_backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    launch = Launch(tmp_path, monkeypatch, Platform("cpu"))
    launch.start(VllmSettings())
    assert launch.arguments["structured_outputs_config"] == {"backend": "xgrammar"}
    assert launch.environment["VLLM_REGEX_COMPILATION_TIMEOUT_S"] == "1"


def test_steps_have_as_many_tokens_as_in_a_server_of_vllm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    launch = Launch(tmp_path, monkeypatch, Platform("cuda", 90))
    launch.start(VllmSettings())
    assert launch.usage_context == "server"
    assert launch.arguments["max_num_batched_tokens"] is None


def test_an_engine_that_cannot_be_patched_is_shut_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise AttributeError("vLLM has changed")

    launch = Launch(tmp_path, monkeypatch, Platform("cpu"))
    launch.patched = fail
    with pytest.raises(AttributeError, match="vLLM has changed"):
        launch.start(VllmSettings())
    assert launch.log[-1] == "shutdown"


@pytest.mark.parametrize("changed", ["the model", "an adapter"])
def test_files_that_change_while_they_are_loaded_fail_the_start(
    changed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (model := tmp_path / "model").mkdir()
    launch = Launch(model, monkeypatch, Platform("cpu"))
    shutil.copy(ATLAS_MODEL / "model.safetensors", model)
    adapter, _ = tiny_adapter(ATLAS_MODEL, tmp_path, targets=["q_proj"], seed=1)
    settings = VllmSettings(adapters={"formal": adapter})
    monkeypatch.setattr(Adapters, "load", lambda *_: None)
    launch.start(settings)
    files = {"the model": model / "config.json", "an adapter": adapter / "adapter_config.json"}

    def change(_: object) -> None:
        files[changed].write_text(files[changed].read_text() + " ")

    launch.patched = change
    with pytest.raises(InvalidRequest, match=r"(model model|adapter formal) was changed while it was loaded"):
        launch.start(settings)
    assert launch.log[-1] == "shutdown"


def test_vllm_sees_only_the_hugging_face_weights_and_reads_them_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch = Launch(tmp_path, monkeypatch, Platform("cpu"))
    launch.start(VllmSettings())
    assert launch.seen == {"config.json", "model.safetensors"}
    assert launch.arguments["model"] == str(tmp_path), "nothing has to be hidden"
    for name in ("consolidated.safetensors", "consolidated-00001-of-00002.safetensors", "params.json", "tekken.json"):
        (tmp_path / name).touch()
    launch.start(VllmSettings())
    assert launch.seen == {"config.json", "model.safetensors", "params.json", "tekken.json"}
    formats = {name: launch.arguments[name] for name in ("config_format", "load_format", "tokenizer_mode")}
    assert formats == {"config_format": "hf", "load_format": "safetensors", "tokenizer_mode": "hf"}
    assert not Path(launch.arguments["model"]).exists(), "the folder with the other view is gone"
    assert (tmp_path / "consolidated.safetensors").is_file()


@pytest.mark.parametrize("capability", [80, 90])
def test_vllm_is_started_in_its_batch_invariant_mode(
    capability: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch = Launch(tmp_path, monkeypatch, Platform("cuda", capability))
    launch.start(VllmSettings(batch_invariant=True))
    launch.start(VllmSettings())
    started = [entry for entry in launch.log if entry.startswith("started")]
    assert started == ["started with 1", "started with 0"], "the setting decides, not the environment"


@pytest.mark.parametrize(
    ("platform", "complaint"),
    [
        (Platform("cpu"), "compute capability 8.0 or higher, and vLLM runs on a CPU here; .* leave out"),
        (Platform("cuda", 75), "compute capability 8.0 or higher; Quadro has 7.5; .* leave out --batch-invariant"),
    ],
    ids=["cpu", "old gpu"],
)
def test_where_vllm_has_no_batch_invariant_mode_it_is_not_started(
    platform: Platform, complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch = Launch(tmp_path, monkeypatch, platform)
    with pytest.raises(InvalidRequest, match=complaint) as caught:
        launch.start(VllmSettings(batch_invariant=True))
    assert caught.value.param == "batch_invariant"
    assert launch.log == []


def test_experts_are_rejected_on_a_gpu_unless_they_are_unfused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    launch = Launch(tmp_path, monkeypatch, Platform("cuda", 90))
    (tmp_path / "config.json").write_text('{"model_type": "qwen3_moe"}')
    with pytest.raises(UnsupportedModel, match="cannot be steered; --unfused-experts computes them without it"):
        launch.start(VllmSettings(), dtype="bfloat16")
    assert launch.log == []
    launch.start(VllmSettings(unfused_experts=True), dtype="bfloat16")
    options = launch.arguments["additional_config"]["ampsweep"]
    assert (options["unfused_experts"], options["backend"]) == (True, "cuda")
    assert not launch.arguments["enforce_eager"], "its steps are replayed from CUDA graphs"
    with pytest.raises(InvalidRequest, match="leave out --batch-invariant") as caught:
        launch.start(VllmSettings(unfused_experts=True, batch_invariant=True), dtype="bfloat16")
    assert caught.value.param == "batch_invariant"


def test_a_second_engine_of_a_process_may_have_another_runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    launch = Launch(tmp_path, monkeypatch, Platform("cuda", 90))
    runners: dict[RunnerName, str] = {"v1": "0", "v2": "1"}
    for runner, number in runners.items():
        launch.log.clear()
        launch.start(VllmSettings(runner=runner))
        assert launch.environment["VLLM_USE_V2_MODEL_RUNNER"] == number
        assert launch.log == ["environment is read again", "started with 0"]


@pytest.mark.parametrize(
    ("dtype", "environment", "expected"),
    [
        ("float32", {}, "ieee"),
        ("float32", {"TRITON_F32_DEFAULT": "tf32x3"}, "tf32x3"),
        ("bfloat16", {}, None),
    ],
)
def test_float32_is_not_multiplied_in_tf32(
    dtype: str,
    environment: Mapping[str, str],
    expected: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("TRITON_F32_DEFAULT", raising=False)
    launch = Launch(tmp_path, monkeypatch, Platform("cuda", 90))
    launch.start(VllmSettings(), dtype=dtype, environment=environment)
    assert launch.environment.get("TRITON_F32_DEFAULT") == expected


@pytest.mark.parametrize("platform", [Platform("cuda", 90), Platform("cpu")])
@pytest.mark.parametrize("enabled", [None, False, True])
def test_steering_takes_no_scheduling_mode_from_vllm(
    platform: Platform, *, enabled: bool | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch = Launch(tmp_path, monkeypatch, platform)
    for backend in (None, "cpu"):
        launch.start(VllmSettings(async_scheduling=enabled, backend=backend))
        assert launch.arguments["async_scheduling"] is enabled


STOPPED_DURING_THE_START = """
import atexit, multiprocessing.util, signal, time
from engine.vllm.launch import kill_workers

def start_as_a_worker_that_lost_its_signal(started):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    started.set()
    time.sleep(60)

fork = multiprocessing.get_context("fork")
started = fork.Event()
fork.Process(target=start_as_a_worker_that_lost_its_signal, args=(started,), daemon=True).start()
started.wait()
atexit.register(kill_workers)
"""


@pytest.mark.processes
def test_a_process_that_ends_during_the_start_does_not_wait_for_its_workers() -> None:
    subprocess.run([sys.executable, "-c", STOPPED_DURING_THE_START], check=True, timeout=30)
