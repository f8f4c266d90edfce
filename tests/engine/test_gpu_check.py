"""The GPU check reports a missing GPU, goes on after a stage that failed, and measures what it names."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest
import torch

from benchmarks import gpu_check, workload
from benchmarks.gpu_rates import GpuRates, Load, generated, scored
from benchmarks.workload import steering
from engine.fake import FakeEngine

if TYPE_CHECKING:
    from engine.vllm.engine import VllmEngine


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


def test_a_failed_stage_is_reported_and_the_next_one_runs(tmp_path: Path) -> None:
    class Check(gpu_check.GpuCheck):
        def kernels(self) -> dict[str, int]:
            raise AssertionError("differs from float64")

        async def answers(self) -> dict[str, str]:
            return {"runner v1": "as the transformers engine"}

    out = tmp_path / "report.json"
    check = Check(tmp_path, model=None, rounds=1, rehearse=True)
    assert gpu_check.run(check, ["kernels", "answers"], out, device="none") == 1
    stages = json.loads(out.read_text())["stages"]
    assert stages["kernels"]["error"] == "AssertionError: differs from float64"
    assert stages["answers"]["result"] == {"runner v1": "as the transformers engine"}
    assert list(stages) == ["kernels", "answers"]


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
