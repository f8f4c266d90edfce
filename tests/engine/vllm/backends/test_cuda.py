"""The CUDA backend in Triton's interpreter gives the answers and recordings of the reference implementation.

The V1 runner uses torch.compile. The V2 runner runs eagerly, in its own process; it schedules ahead, as on a GPU.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.comparisons.checksum_identifier import ChecksumIdentifier
from benchmarks.comparisons.mixed_load import SETTINGS, assert_same, run_load
from benchmarks.models.adapter import tiny_adapter
from engine.hf.engine import TransformersEngine
from engine.vllm.engine import VllmEngine
from engine.vllm.worker.outputs import recording
from tests.engine.further_load import STRONG_SET, assert_same_answers, whole_answers

pytest.importorskip("triton")
pytestmark = [
    pytest.mark.engine,
    pytest.mark.timeout(900),  # the interpreter is slow
    # The rows of padding tokens hold whatever the memory held, infinity too; NumPy warns of them, a GPU does not.
    pytest.mark.filterwarnings("ignore:(invalid value|overflow) encountered:RuntimeWarning"),
    pytest.mark.skipif(torch.cuda.is_available(), reason="benchmarks/gpu_check.py does this on a GPU"),
]


@pytest.fixture(scope="module")
def folder(model_folder: Callable[[str], Path]) -> Path:
    return model_folder("qwen2")


@pytest.fixture(scope="module")
def expected(reference: Callable[[str], Any]) -> dict[str, Any]:
    results = asyncio.run(run_load(reference("qwen2")))
    assert all(spans for _, spans in results["switched"]), "no answer is switched"
    return results


def test_the_v1_runner_compiled(folder: Path, expected: dict[str, Any]) -> None:
    async def check() -> dict[str, Any]:
        settings = replace(SETTINGS, runner="v1", compile=True)
        engine = await VllmEngine.open(folder, settings=settings, open_identifier=ChecksumIdentifier)
        answered = await run_load(engine)
        await engine.close()
        return answered

    assert_same(asyncio.run(check()), expected)


def test_the_v2_runner(folder: Path, reference: Callable[[str], Any], expected: dict[str, Any], tmp_path: Path) -> None:
    adapter, merged = tiny_adapter(folder, tmp_path, targets=["q_proj", "gate_proj", "down_proj"], seed=1)
    run = subprocess.run(
        [sys.executable, "-m", "tests.engine.interpreted", str(folder), str(adapter)],
        cwd=Path(__file__).parents[4],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[4])},
        capture_output=True,
        text=True,
        timeout=840,
    )
    assert run.returncode == 0, run.stderr[-4000:]
    answered = json.loads(run.stdout.splitlines()[-1])
    assert answered["runner"] == "vllm.v1.worker.cpu.model_runner"
    assert answered["scheduler"] == "AsyncScheduler"
    assert answered["preempted"] > 0, "no request was dropped and added again"
    assert answered["added together"] > 1, "no sentences were added up on the device"
    assert_same(answered, expected)
    assert answered["slots after an abort"] == 0
    assert answered["overflow"].startswith("the intervention is too strong")
    assert answered["overflowed"] == [STRONG_SET], "no other request, and none of the mixed load, overflows"

    async def check_whole_answers() -> None:
        assert_same_answers(answered["whole"], await whole_answers(reference("qwen2")))
        with_adapter = TransformersEngine(merged)
        assert_same_answers(answered["with an adapter"], await whole_answers(with_adapter))
        await with_adapter.close()
        assert answered["with an adapter"]["tokens"] != answered["whole"]["tokens"]

    asyncio.run(check_whole_answers())


def test_a_mixture_of_experts(
    model_folder: Callable[[str], Path], reference: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two layers have experts with an MLP for all tokens beside them, and the layer between them a plain MLP."""
    monkeypatch.setattr(
        recording, "RECORDING_BYTES", 60_000
    )  # eight sentences: the interpreter runs a program for each

    async def check() -> None:
        expected = await run_load(reference("qwen2_moe"), new_tokens=6, captures=True)
        settings = replace(SETTINGS, runner="v1")
        engine = await VllmEngine.open(model_folder("qwen2_moe"), settings=settings, open_identifier=ChecksumIdentifier)
        answered = await run_load(engine, new_tokens=6, captures=True)
        await engine.close()
        assert_same(answered, expected)

    asyncio.run(check())
