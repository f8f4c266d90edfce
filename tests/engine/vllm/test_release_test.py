"""An engine with one of the faults that a changed vLLM release could bring fails the release test, by name."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from ampsweep.domain.generation.chunk import Chunk
from ampsweep.errors import SteeringNotInstalled
from benchmarks.comparisons.mixed_load import random_neurons
from engine.base import EngineStats, GenerateRequest, Score, ScoreRequest, Steering
from engine.fake import FAKE_INFO, FakeEngine
from engine.vllm.release_test import release_test

FAULTS = {
    "ignores_scope": "scope 'generation' changed the prompt",
    "never_decodes_steered": "scope 'generation' had no effect in decode steps",
    "mixes_cache": "unsteered text read steered prefix-cache blocks",
    "never_splits": "a long prompt was not split among steps",
    "loses_steering_in_chunks": "a prompt split among steps was steered differently",
    "mixes_batches": "a request in a mixed batch was steered differently",
}


class Faulty(FakeEngine):
    """A model whose log-probabilities are -1, less a hundredth of an intervention's factor; with at most one fault."""

    def __init__(self, fault: str | None, dtype: str) -> None:
        super().__init__(replace(FAKE_INFO, dtype=dtype))
        self.fault = fault
        self.chunk: int | None = None
        self.cached: set[str] = set()
        self.steps = 0
        self.running = 0

    async def score(self, request: ScoreRequest) -> Score:
        self.running += 1
        await asyncio.sleep(0)
        value = effect(request.steering)
        if self.fault == "mixes_batches" and self.running > 2:
            value = effect(None)
        if self.fault == "mixes_cache":
            if request.steering is None and request.context in self.cached:
                value = -5.0
            self.cached |= {str(request.context)} if request.steering else set()
        if self.chunk is not None:
            self.steps += 1 if self.fault == "never_splits" else 3
            if self.fault == "loses_steering_in_chunks":
                value = effect(None)
        await asyncio.sleep(0)
        self.running -= 1
        return Score(token_ids=(1,), logprobs=(value,), context_tokens=1)

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Chunk]:
        steered, plain = effect(request.steering), effect(None)
        scope = request.steering.intervention.scope if request.steering else "all"
        first = plain if scope == "generation" and self.fault != "ignores_scope" else steered
        later = plain if scope == "prompt" or self.fault == "never_decodes_steered" else steered
        for value in (first, later, later, later):
            yield Chunk(
                text="",
                token_ids=(1,),
                token_texts=("",),
                text_offsets=(0,),
                logprobs=(value,),
                top_logprobs=((),),
                prompt_tokens=1,
            )

    def stats(self) -> EngineStats:
        return replace(super().stats(), steps=self.steps)

    @asynccontextmanager
    async def split(self, tokens: int) -> AsyncIterator[None]:
        self.chunk = tokens
        yield
        self.chunk = None


def effect(steering: Steering | None) -> float:
    return -1.0 - (0.0 if steering is None else float(np.float64(steering.intervention.factor or 0.0)) / 100)


def run(fault: str | None, dtype: str = "float32") -> None:
    engine = Faulty(fault, dtype)
    asyncio.run(release_test(engine, random_neurons(engine.info), partial(engine.split)))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_an_engine_without_faults_passes(dtype: str) -> None:
    run(None, dtype)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named(fault: str, dtype: str) -> None:
    with pytest.raises(SteeringNotInstalled, match=FAULTS[fault]):
        run(fault, dtype)
