"""The GPU check reports a missing GPU, keeps what was found before a stage failed, and measures what it names."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest
import torch

from benchmarks import gpu_check
from benchmarks.comparisons.mixed_load import SETTINGS
from benchmarks.gpu import stages as gpu_stages
from benchmarks.gpu.parts import UNFINISHED, Parts
from benchmarks.gpu.rates import GpuRates, Load, generated, scored
from benchmarks.gpu.stages import STAGES, GpuStages
from benchmarks.timed_runs import workload
from benchmarks.timed_runs.workload import steering
from engine.fake import FakeEngine

if TYPE_CHECKING:
    from engine.vllm.engine import VllmEngine

PARTS = "from benchmarks.gpu.parts import Parts; from pathlib import Path; parts = Parts(Path({path!r})); "
STAGE_PROGRAMS = {
    "kernels": "parts.add('steering', 'agrees')",
    "answers": "parts.add('runner v1', 'same'); import os, signal; os.kill(os.getpid(), signal.SIGSEGV)",
    "kernel times": "parts.add('width 40', []); import asyncio, time; "
    "asyncio.run(parts.run('width 75', lambda: time.sleep(600)))",
    "operator times": "import asyncio; asyncio.run(parts.run('width 40', lambda: 1 / 0)); raise SystemExit(1)",
    "rates": "parts.add('idle', {{}})",
}


def _wait_for(condition: Callable[[], bool]) -> None:
    ends = time.monotonic() + 60.0
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.05)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_it_refuses_a_machine_without_cuda(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "report.json"
    assert gpu_check.main(["--out", str(out), "--rounds", "1"]) == 2
    assert "needs a CUDA device" in capsys.readouterr().err
    assert not out.exists()


def test_a_wrong_argument_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        gpu_check.main(["--out", "x", "--stages", "speed"])
    assert "--stages" in capsys.readouterr().err


@pytest.mark.parametrize("distinct", Load().distinct[1:])
def test_a_batch_has_as_many_interventions_as_its_name_says(distinct: int) -> None:
    requests = Load().requests
    for items in (generated(["a"] * requests, distinct, 8), scored([("a", "b")] * requests, distinct)):
        assert len(items) == requests
        steerings = [steering(item.intervention) for item in items]
        assert len({one.intervention.hash for one in steerings if one is not None}) == distinct


@pytest.mark.processes
def test_a_stage_that_fails_hangs_or_is_killed_takes_no_results(tmp_path: Path) -> None:
    def command(stage: str, parts: Path) -> Sequence[str]:
        return [sys.executable, "-c", (PARTS + STAGE_PROGRAMS[stage]).format(path=str(parts))]

    out = tmp_path / "results" / "report.json"
    started: list[str] = []

    def noting(stage: str, parts: Path) -> Sequence[str]:
        started.append(stage)
        return command(stage, parts)

    hanging = ["kernel times"]
    others = [stage for stage in STAGE_PROGRAMS if stage not in hanging]
    assert gpu_check.run(others, out, device="a card", command=noting, limit=60.0) == 2
    assert gpu_check.run(hanging, out, device="a card", command=noting, limit=5.0) == 1
    report = json.loads(out.read_text())
    stages: dict[str, Any] = report["stages"]
    assert started == [*others, *hanging] == list(stages)
    assert report["device"] == "a card"
    assert stages["kernels"]["parts"] == {"steering": {"result": "agrees"}}
    assert "error" not in stages["kernels"]
    assert stages["answers"]["error"] == "killed by SIGSEGV"
    assert stages["answers"]["parts"] == {"runner v1": {"result": "same"}}
    assert stages["operator times"]["error"] == "exit status 1; failed: width 40"
    assert stages["operator times"]["parts"]["width 40"]["error"] == "ZeroDivisionError: division by zero"
    assert stages["rates"]["parts"] == {"idle": {"result": {}}}
    assert stages["kernel times"]["error"].startswith("killed after 5 s; use a larger --limit")
    assert stages["kernel times"]["error"].endswith("failed: width 75")
    assert stages["kernel times"]["parts"] == {"width 40": {"result": []}, "width 75": {"error": UNFINISHED}}
    assert stages["kernel times"]["seconds"] < 60
    assert gpu_check.run(["kernels"], out, device="another card", command=command, limit=60.0) == 0
    assert list(json.loads(out.read_text())["stages"]) == ["kernels"], "stages of another card are not kept"


@pytest.mark.processes
@pytest.mark.parametrize(
    ("death", "error"),
    [("kill(getpid(), 11)", "killed by SIGSEGV"), (f"_exit({gpu_stages.DEVICE_LOST})", "lost the device")],
)
def test_a_part_that_ends_its_process_does_not_take_those_after_it(tmp_path: Path, death: str, error: str) -> None:
    program = (
        PARTS.replace("({path!r})", "({path!r}), resume=True") + "import asyncio; from os import _exit, getpid, kill; "
    )
    program += "asyncio.run(parts.run('a', int)); asyncio.run(parts.run('b', lambda: {death})); "
    program += "asyncio.run(parts.run('c', lambda: {death})); asyncio.run(parts.run('d', int))"

    def command(_stage: str, parts: Path) -> Sequence[str]:
        return [sys.executable, "-c", program.format(path=str(parts), death=death)]

    out = tmp_path / "report.json"
    earlier = {"a": {"result": 1}, "c": {"error": UNFINISHED}}
    out.write_text(json.dumps({"device": "a card", "stages": {"answers": {"parts": earlier, "error": "killed"}}}))
    assert gpu_check.run(["answers"], out, device="a card", command=command, limit=60.0, keep_parts=True) == 1
    stage = json.loads(out.read_text())["stages"]["answers"]
    assert stage["error"] == f"{error}; failed: c, b"
    assert (stage["parts"]["a"], stage["parts"]["d"]["result"]) == ({"result": 1}, 0)
    assert stage["parts"]["b"] == stage["parts"]["c"] == {"error": UNFINISHED}


@pytest.mark.parametrize("initialized", [True, False])
def test_a_process_that_has_lost_the_device_ends(monkeypatch: pytest.MonkeyPatch, initialized: bool) -> None:
    def synchronize() -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    exits: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: initialized)
    monkeypatch.setattr(torch.cuda, "synchronize", synchronize)
    monkeypatch.setattr(os, "_exit", exits.append)
    gpu_stages.end_if_device_is_lost()
    assert exits == ([gpu_stages.DEVICE_LOST] if initialized else [])


@pytest.mark.processes
def test_a_stage_that_hangs_says_where(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    program = (
        "import asyncio, sys, time; from benchmarks.gpu import stages as gpu_stages\n"
        "async def hang_here(stages):\n    stages._parts.add('begun', 1)\n    time.sleep(600)\n"
        "gpu_stages.GpuStages.rates = hang_here\n"
        "sys.exit(gpu_stages.main(['rates', '--parts', sys.argv[1]]))"
    )
    out = tmp_path / "report.json"

    def command(_stage: str, parts: Path) -> Sequence[str]:
        return [sys.executable, "-c", program, str(parts)]

    assert gpu_check.run(["rates"], out, device="a card", command=command, limit=15.0) == 1
    assert json.loads(out.read_text())["stages"]["rates"]["parts"] == {"begun": {"result": 1}}
    assert "in hang_here" in capfd.readouterr().err


@pytest.mark.processes
def test_killing_the_whole_command_loses_only_the_part_that_runs_and_ends_it(tmp_path: Path) -> None:
    out, pid = tmp_path / "report.json", tmp_path / "pid"
    stage = PARTS + "import asyncio, os, time; parts.add('a', 1); " + "Path({pid!r}).write_text(str(os.getpid())); "
    stage += "asyncio.run(parts.run('b', lambda: time.sleep(600)))"
    program = (
        "import sys; from pathlib import Path; from benchmarks import gpu_check; "
        "command = lambda _stage, parts: [sys.executable, '-c', sys.argv[1].format(path=str(parts), pid=sys.argv[2])]; "
        "gpu_check.run(['rates'], Path(sys.argv[3]), device='a card', command=command, limit=None)"
    )
    check = subprocess.Popen([sys.executable, "-c", program, stage, str(pid), str(out)], start_new_session=True)
    try:
        _wait_for(lambda: out.exists() and '"b"' in out.read_text())
        assert os.getsid(int(pid.read_text())) == check.pid, "the stage is in the session of the command"
    finally:
        check.kill()
        check.wait()
        os.kill(int(pid.read_text()), signal.SIGKILL)
    assert json.loads(out.read_text())["stages"]["rates"]["parts"] == {"a": {"result": 1}, "b": {"error": UNFINISHED}}


@pytest.mark.processes
def test_a_further_call_runs_what_has_no_result_yet(tmp_path: Path) -> None:
    started: list[str] = []

    def command(stage: str, parts: Path) -> Sequence[str]:
        started.append(parts.read_text())
        return [sys.executable, "-c", (PARTS + STAGE_PROGRAMS[stage]).format(path=str(parts))]

    out = tmp_path / "report.json"
    done = {"idle": {"result": 3}, "generation": {"error": UNFINISHED}}
    out.write_text(json.dumps({"device": "a card", "stages": {"rates": {"parts": done, "error": "killed"}}}))
    assert gpu_check.run(["rates"], out, device="a card", command=command, limit=None, keep_parts=True) == 0
    assert json.loads(started[0]) == done
    assert json.loads(out.read_text())["stages"]["rates"]["parts"] == {**done, "idle": {"result": {}}}
    assert gpu_check.run(["rates"], out, device="a card", command=command, limit=None) == 0
    assert started[1] == "{}"


def test_no_stage_begins_when_the_budget_is_used_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def command(_stage: str, _parts: Path) -> Sequence[str]:
        raise AssertionError("it must not begin")

    out = tmp_path / "report.json"
    assert gpu_check.run(["kernels", "rates"], out, device="a card", command=command, limit=None, budget=1.0) == 0
    assert json.loads(out.read_text()) == {"device": "a card", "stages": {}}
    assert capsys.readouterr().out.count("the budget is used up") == 2


@pytest.mark.parametrize("installed", [True, False])
def test_stages_sample_without_flashinfer_where_it_is_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, installed: bool
) -> None:
    monkeypatch.setattr(gpu_check, "find_spec", lambda name: object() if installed else None)
    monkeypatch.delenv("VLLM_USE_FLASHINFER_SAMPLER", raising=False)
    program = PARTS + "import os; parts.add('sampler', os.environ.get('VLLM_USE_FLASHINFER_SAMPLER'))"

    def command(_stage: str, path: Path) -> list[str]:
        return [sys.executable, "-c", program.format(path=str(path))]

    out = tmp_path / "report.json"
    assert gpu_check.run(["rates"], out, device="card", command=command, limit=60.0) == 0
    assert json.loads(out.read_text())["stages"]["rates"]["parts"] == {
        "sampler": {"result": None if installed else "0"}
    }


def test_an_error_outside_the_parts_is_in_the_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def rates(stages: GpuStages) -> None:
        stages._parts.add("setting", 1)
        raise RuntimeError("no engine starts")

    monkeypatch.setattr(GpuStages, "rates", rates)
    path = tmp_path / "parts.json"
    assert gpu_stages.main(["rates", "--parts", str(path)]) == 1
    assert json.loads(path.read_text()) == {
        "setting": {"result": 1},
        "before or between the others": {"error": "RuntimeError: no engine starts"},
    }


@pytest.mark.processes
def test_the_memory_checker_runs_kernels_and_nothing_that_needs_the_allocator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmarks.kernels.checks import KERNELS

    sanitizer = tmp_path / gpu_stages.SANITIZER
    sanitizer.write_text(f'#!/bin/sh\nprintf "%s\\n" "$PYTORCH_NO_CUDA_MEMORY_CACHING" "$@" >{tmp_path}/called\n')
    sanitizer.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    path = tmp_path / "parts.json"
    assert gpu_stages.main(["sanitizer", "--parts", str(path)]) == 0
    assert json.loads(path.read_text())["memcheck"]["result"] == "no errors"
    caching, *command = (tmp_path / "called").read_text().splitlines()
    assert caching == "1"
    assert command[command.index("--only") + 1 :] == list(KERNELS)
    assert {"graph replay", "host copies", "recordings"}.isdisjoint(command)


def test_the_answers_are_compared_with_both_runners_and_while_requests_preempt_each_other(tmp_path: Path) -> None:
    stages = GpuStages(Parts(tmp_path / "parts.json"), tmp_path, model=None, rounds=1, rehearse=False)
    variants = stages._variants()
    assert list(stages.stages()) == list(STAGES)
    assert len({str(settings) for settings in variants.values()}) == 8
    for runner in ("v1", "v2"):
        of_runner = {name: settings for name, settings in variants.items() if settings.runner == runner}
        assert len(of_runner) == 4
        assert [name for name, settings in of_runner.items() if not settings.compile] == [f"runner {runner}, eager"]
        assert of_runner[f"runner {runner}, small cache"].kv_cache_bytes == SETTINGS.kv_cache_bytes
        assert all(settings.backend is None for settings in of_runner.values()), "the one for the device"


def test_the_answers_of_a_mixture_are_compared_eager_and_in_graphs(tmp_path: Path) -> None:
    stages = GpuStages(Parts(tmp_path / "parts.json"), tmp_path, model=None, rounds=1, rehearse=False)
    variants = stages._mixture_variants()
    assert all(settings.unfused_experts and settings.backend is None for settings in variants.values())
    assert {(settings.runner, settings.compile) for settings in variants.values()} == {
        (runner, compiled) for runner in ("v1", "v2") for compiled in (True, False)
    }


def test_rates_name_every_number_of_interventions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workload, "SHARE", 0.1)  # of the few neurons of the fake engine
    load = Load(requests=4, prompt=3, new_tokens=2, distinct=(0, 2), rounds=1)
    rates = GpuRates(cast("VllmEngine", FakeEngine()), load)
    generation, scoring = asyncio.run(rates.distinct()), asyncio.run(rates.scoring())
    assert set(generation) == {"0 interventions", "2 interventions"}
    assert set(scoring) == {"forward pass", *generation}
    assert generation["0 interventions"]["ratio"]["median"] == 1.0
    seconds = generation["2 interventions"]["seconds"][0]
    assert generation["2 interventions"]["tokens/s"] == pytest.approx(4 * 2 / seconds, abs=1)


def test_recording_is_compared_with_one_token_after_each_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workload, "SHARE", 0.1)  # of the few neurons of the fake engine
    load = Load(requests=2, prompt=3, new_tokens=2, distinct=(0, 1), rounds=1)
    recording = asyncio.run(GpuRates(cast("VllmEngine", FakeEngine()), load).recording())
    assert list(recording) == ["prefill", "recording"]
    assert recording["prefill"]["ratio"]["median"] == 1.0
    seconds = recording["recording"]["seconds"][0]
    assert recording["recording"]["tokens/s"] == pytest.approx(8 * 2 * 3 / seconds, abs=1)
