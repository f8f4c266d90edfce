"""Interventions, a neuron set for the tiny models, and requests to an engine on one of them."""

from __future__ import annotations

import asyncio
from functools import cache
from typing import Any

import numpy as np

from ampsweep.domain.choices import Mode
from ampsweep.domain.generation.chunk import Chunk
from ampsweep.domain.generation.sampling import SamplingParams
from ampsweep.domain.intervention import Intervention
from benchmarks.models.families import LAYERS, WIDTH, Family
from engine.base import GenerateRequest, Score, ScoreRequest, Steering
from engine.hf.engine import TransformersEngine
from engine.neurons.neuron_set import NeuronSet, PatchValues

HIDDEN = 64
INTERVENTIONS: list[dict[str, Any]] = [
    {"languages": ["fr"], "op": "scale", "factor": 5},
    {"languages": ["fr", "en"], "op": "scale", "factor": 0, "layers": [0, 2]},
    {"languages": ["en"], "op": "add", "factor": 2.5, "scope": "prompt"},
    {"languages": ["fr"], "op": "set", "patch": "max", "factor": 3, "scope": "generation"},
    {"languages": ["en"], "op": "set", "patch": "mean", "non_target": {"op": "set", "factor": 0}},
    {"languages": ["fr"], "op": "add", "patch": "median", "selection": "random", "seed": 3, "layers": [1]},
    {"languages": ["fr"], "op": "set", "factor": 2, "statistic": "p97.5"},
    {"languages": {"fr": 0.5, "en": -2}, "op": "add", "statistic": "std", "layers": [0, 1]},
    {"languages": ["fr"], "op": "add", "patch": "difference", "source": {"language": "en", "op": "set", "factor": 0}},
    {"languages": {"fr": -0.5}, "op": "add", "patch": "difference", "scope": "generation"},
    {"languages": ["fr"], "op": "scale", "factor": 5, "scope": "prompt", "tokens": {"start": -2}},
    {"languages": ["en"], "op": "set", "statistic": "max", "scope": "generation", "tokens": {"positions": [2, 0]}},
    {"languages": ["fr"], "op": "set", "factor": 2, "statistic": "max", "tokens": {"decay": 0.7}},
    {"languages": ["en"], "op": "scale", "factor": 0, "scope": "generation", "tokens": {"end": 3, "decay": 0.5}},
]
VECTORS: list[dict[str, Any]] = [
    {"languages": ["fr"], "op": "add", "vector": "diffmean", "factor": 8},
    {"languages": ["fr"], "op": "add", "vector": "diffmean_raw", "factor": -2, "layers": [1], "scope": "prompt"},
    {"languages": {"en": 0.5}, "op": "add", "vector": "diffmean", "factor": 9, "layers": [0, 2], "scope": "generation"},
    {"languages": ["en"], "op": "add", "vector": "diffmean_raw", "factor": 1, "selection": "random", "seed": 4},
    {
        "languages": ["fr"],
        "op": "add",
        "vector": "diffmean",
        "factor": 8,
        "tokens": {"start": 1, "end": 4, "decay": 0.6},
    },
]


@cache
def neurons_of(family: Family) -> NeuronSet:
    random = np.random.default_rng(1)
    width = WIDTH[family]

    def some() -> Any:
        flat = np.sort(random.permutation(LAYERS * width)[:24])
        return np.stack([flat // width, flat % width], axis=1).astype(np.int32)

    values = [random.normal(size=(2, LAYERS, width)).astype(np.float32) for _ in range(3)]
    return NeuronSet(
        id="ns_test",
        model=family,
        fingerprint="",
        layers=LAYERS,
        width=width,
        method="imported",
        neurons={"en": some(), "fr": some()},
        patch=PatchValues(max=values[0], median=values[1], mean=values[2]),
        residual_mean=random.normal(size=(2, LAYERS, HIDDEN)).astype(np.float32),
    )


def steering(raw: dict[str, Any] | None, mode: Mode = "corrected") -> Steering | None:
    return None if raw is None else Steering(intervention=Intervention.from_dict(raw), neurons="ns_test", mode=mode)


def generate(
    engine: TransformersEngine, prompt: str, raw: dict[str, Any] | None = None, **sampling: Any
) -> list[Chunk]:
    async def collect() -> list[Chunk]:
        request = GenerateRequest(prompt=prompt, sampling=SamplingParams(**sampling), steering=steering(raw))
        return [chunk async for chunk in engine.generate(request)]

    return asyncio.run(collect())


def tokens_of(chunks: list[Chunk]) -> tuple[int, ...]:
    return tuple(token for chunk in chunks for token in chunk.token_ids)


def score_text(
    engine: TransformersEngine,
    context: str,
    continuation: str,
    raw: dict[str, Any] | None = None,
    mode: Mode = "corrected",
) -> Score:
    request = ScoreRequest(context=context, continuation=continuation, steering=steering(raw, mode))
    return asyncio.run(engine.score(request))
