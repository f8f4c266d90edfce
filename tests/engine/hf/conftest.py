"""Engines on tiny models, with a neuron set, and the hand-written forward pass of the same models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.models.families import FAMILIES, Family
from engine.hf.engine import TransformersEngine
from tests.engine.forward import HandModel
from tests.engine.hf.calls import neurons_of


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> Family:
    chosen: Family = request.param
    return chosen


@pytest.fixture
def hand(family: Family, model_folder: Callable[[Family], Path]) -> HandModel:
    return HandModel(model_folder(family))


@pytest.fixture
def engine(family: Family, reference: Callable[[Family], TransformersEngine]) -> TransformersEngine:
    reference(family).add_neurons(neurons_of(family))
    return reference(family)


@pytest.fixture
def qwen(reference: Callable[[Family], TransformersEngine]) -> TransformersEngine:
    reference("qwen2").add_neurons(neurons_of("qwen2"))
    return reference("qwen2")
