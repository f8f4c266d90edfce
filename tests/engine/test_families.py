"""vLLM gives the answers of the reference implementation for every model family in docs/models.md."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest

from ampsweep.errors import UnsupportedModel
from benchmarks.comparisons.checksum_identifier import ChecksumIdentifier
from benchmarks.comparisons.mixed_load import SETTINGS, assert_same, run_load
from benchmarks.models.families import TRANSFORMERS_ONLY, Family
from engine.hf.engine import TransformersEngine
from engine.vllm.engine import VllmEngine

pytestmark = pytest.mark.engine

SMALL = replace(SETTINGS, backend="cpu", kv_cache_bytes=8 * 1024**2)


@pytest.fixture(autouse=True)
def _vllm_in_one_process_with_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    """Save ten seconds per family, and keep the classes of Transformers usable for other tests.

    vLLM starts a process that imports vLLM only to inspect a model class; here it inspects the class in this process.
    Its Transformers backend modifies the library's own classes for torch.compile, after which they cannot be used
    otherwise in the same process; torch.compile is off here.
    """
    monkeypatch.setattr("vllm.model_executor.models.registry._run_in_subprocess", lambda read: read())
    backend = "vllm.model_executor.models.transformers.base.support_torch_compile"
    monkeypatch.setattr(backend, lambda **_: lambda decorated: decorated)


@pytest.mark.parametrize("family", [family for family in get_args(Family) if family not in TRANSFORMERS_ONLY])
def test_a_family_answers_as_the_reference_does(
    family: Family, model_folder: Callable[[Family], Path], reference: Callable[[Family], TransformersEngine]
) -> None:
    """One batch generates, scores, records and captures, under several interventions and unsteered."""

    async def check() -> None:
        expected = await run_load(reference(family), captures=True)
        engine = await VllmEngine.open(model_folder(family), settings=SMALL, open_identifier=ChecksumIdentifier)
        try:
            answered = await run_load(engine, captures=True)
            assert answered["captured"] is not None
            assert_same(answered, expected)
        finally:
            await engine.close()

    asyncio.run(check())


@pytest.mark.parametrize("family", TRANSFORMERS_ONLY)
def test_a_family_that_vllm_cannot_run_is_rejected_before_it_is_loaded(
    family: Family, model_folder: Callable[[Family], Path]
) -> None:
    with pytest.raises(UnsupportedModel, match=r"vLLM cannot run \w+ here: .* --engine transformers"):
        asyncio.run(VllmEngine.open(model_folder(family), settings=SMALL))
