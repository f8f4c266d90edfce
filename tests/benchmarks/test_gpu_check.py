"""The GPU check reports a missing GPU, keeps what was found before a stage failed, and measures what it names."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest
import torch

from benchmarks import gpu_check, gpu_stages, workload
from benchmarks.gpu_rates import GpuRates, Load, generated, scored
from benchmarks.gpu_stages import STAGES, GpuStages
from benchmarks.mixed_load import SETTINGS
from benchmarks.parts import Parts
from benchmarks.workload import steering
from engine.fake import FakeEngine

if TYPE_CHECKING:
    from engine.vllm.engine import VllmEngine

PARTS = "from benchmarks.parts import Parts; from pathlib import Path; parts = Parts(Path({path!r})); "
STAGE_PROGRAMS = {
    "kernels": "parts.add('steering', 'agrees')",
    "answers": "parts.add('runner v1', 'same'); import os, signal; os.kill(os.getpid(), signal.SIGSEGV)",
    "kernel times": "parts.add('width 40', []); import time; time.sleep(600)",
    "operator times": "import asyncio; asyncio.run(parts.run('width 40', lambda: 1 / 0)); raise SystemExit(1)",
    "rates": "parts.add('idle', {{}})",
}


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
    assert stages["kernel times"]["seconds"] < 60
    assert gpu_check.run(["kernels"], out, device="another card", command=command, limit=60.0) == 0
    assert list(json.loads(out.read_text())["stages"]) == ["kernels"], "stages of another card are not kept"


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
