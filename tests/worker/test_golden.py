"""Every task on vLLM gives the results of the reference engine: accuracies and text exactly, scores within 1e-3."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from ampsweep.bundled import ATLAS_MODEL
from ampsweep.telemetry.start_phase import phases_to
from engine.vllm.engine import VllmEngine
from engine.vllm.settings import VllmSettings
from tests.worker.golden import CASES, Case, answers

pytestmark = pytest.mark.engine


@dataclass(frozen=True, kw_only=True)
class Running:
    """An engine, the loop it lives in, and the phases of its start."""

    engine: VllmEngine
    runner: asyncio.Runner
    phases: list[str]


async def opened(phases: list[str]) -> VllmEngine:
    with phases_to(phases.append):
        return await VllmEngine.open(ATLAS_MODEL, settings=VllmSettings(max_model_len=1024))


@pytest.fixture(scope="module")
def vllm() -> Iterator[Running]:
    phases: list[str] = []
    with asyncio.Runner() as runner:
        engine = runner.run(opened(phases))
        yield Running(engine=engine, runner=runner, phases=phases)
        runner.run(engine.close())


def test_the_start_of_vllm_reports_its_phases(vllm: Running) -> None:
    assert vllm.phases == ["loading the model", "compiling and warming up", "testing steering"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_vllm_gives_what_the_reference_engine_gave(case: Case, vllm: Running) -> None:
    if not case.data.is_dir():
        pytest.skip(f"the files of {case.task} are not here; AMPSWEEP_TEST_DATA names their folder")
    expected = json.loads(case.file.read_text(encoding="utf-8"))
    computed = vllm.runner.run(answers(case, vllm.engine))
    assert computed["model"] == expected["model"], (
        "the golden files are of another model: python -m tests.worker.golden"
    )
    for kind in ("unsteered", "steered"):
        assert len(computed[kind]) == len(expected[kind]) > 0
        for sample, golden in zip(computed[kind], expected[kind], strict=True):
            close = {"score": approximate(golden["score"]), "sums": approximate(golden["sums"])}
            assert sample == {**golden, **close}


def approximate(value: Any) -> Any:
    return None if value is None else pytest.approx(value, abs=1e-3)
