"""Fixtures of the engine tests: tiny models and engines on them, created once per session."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.tiny_models import Family, tiny_model
from engine.hf.engine import TransformersEngine


@pytest.fixture(autouse=True)
def _loops_turn(no_loop_stalls: None) -> None:
    """Apply `no_loop_stalls` to every test."""


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
            loaded[family] = TransformersEngine(model_folder(family))
        return loaded[family]

    yield engine
    for transformers_engine in loaded.values():
        asyncio.run(transformers_engine.close())
