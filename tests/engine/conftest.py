"""Fixtures of the engine tests: tiny models and engines on them, created once per session."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.comparisons.checksum_identifier import ChecksumIdentifier
from benchmarks.models.families import Family, tiny_model
from engine.hf.engine import TransformersEngine
from engine.vllm import versions


@pytest.fixture(autouse=True)
def _loops_turn(no_loop_stalls: None) -> None:
    """Apply `no_loop_stalls` to every test."""


@pytest.fixture(scope="session", autouse=True)
def _next_release() -> Iterator[None]:
    """Accept the vLLM release that `make vllm-next` tests, besides those that were tested before."""
    with pytest.MonkeyPatch.context() as patch:
        if release := os.environ.get("AMPSWEEP_VLLM_NEXT"):
            patch.setattr(versions, "SUPPORTED", (*versions.SUPPORTED, release))
        yield


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Family], Path]:
    """Return the folder of a tiny model of a family, written at the first call."""
    folders: dict[Family, Path] = {}

    def folder(family: Family) -> Path:
        if family not in folders:
            folders[family] = tiny_model(family, tmp_path_factory.mktemp("models") / family)
        return folders[family]

    return folder


@pytest.fixture(scope="session")
def reference(model_folder: Callable[[Family], Path]) -> Iterator[Callable[[Family], TransformersEngine]]:
    """Return the transformers engine on a tiny model, loaded at the first call."""
    loaded: dict[Family, TransformersEngine] = {}

    def engine(family: Family) -> TransformersEngine:
        if family not in loaded:
            loaded[family] = TransformersEngine(model_folder(family), open_identifier=ChecksumIdentifier)
        return loaded[family]

    yield engine
    for transformers_engine in loaded.values():
        asyncio.run(transformers_engine.close())
