"""vLLM gives the reference implementation's answers for every model family that docs/models.md lists as supported."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest

from benchmarks.mixed_load import SETTINGS, assert_same, run_load
from benchmarks.tiny_models import Family
from engine.hf.engine import TransformersEngine
from engine.vllm.engine import VllmEngine

pytestmark = pytest.mark.engine

SMALL = replace(SETTINGS, backend="cpu", kv_cache_bytes=8 * 1024**2)


@pytest.fixture(autouse=True)
def _vllm_in_one_process_with_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare a new family's start ten seconds, and the other tests its traces.

    vLLM imports itself anew in a process only to read a class; and its Transformers backend prepares the library's own
    classes for torch.compile, which is off here, so that they are good for nothing else in this process.
    """
    monkeypatch.setattr("vllm.model_executor.models.registry._run_in_subprocess", lambda read: read())
    backend = "vllm.model_executor.models.transformers.base.support_torch_compile"
    monkeypatch.setattr(backend, lambda **_: lambda decorated: decorated)


@pytest.mark.parametrize("family", get_args(Family))
def test_a_family_answers_as_the_reference_does(
    family: Family, model_folder: Callable[[Family], Path], reference: Callable[[Family], TransformersEngine]
) -> None:
    """Generated, scored and recorded in one batch, steered by several interventions and not at all."""

    async def check() -> None:
        expected = await run_load(reference(family))
        engine = await VllmEngine.open(model_folder(family), settings=SMALL)
        try:
            assert_same(await run_load(engine), expected)
        finally:
            await engine.close()

    asyncio.run(check())
