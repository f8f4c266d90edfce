"""The timed requests on a patched engine, sent in the way that a worker sends those of its cells."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from functools import partial
from typing import Any

from ampsweep.domain.generation.sampling import SamplingParams
from ampsweep.folders.corpus import Sentence
from benchmarks.timed_runs.stock_vllm import run_plain
from benchmarks.timed_runs.workload import GeneratedItem, ScoredItem, steering
from engine.base import GenerateRequest, ScoreRequest
from engine.identify.record_request import RecordRequest
from engine.vllm.engine import VllmEngine

IN_FLIGHT = 256
"""Number of requests in the engine at once, the default of a worker."""


class VllmRuns:
    """Sends requests to an engine that has the neuron set of `benchmarks.timed_runs.workload`."""

    def __init__(self, engine: VllmEngine) -> None:
        """Use `engine`, which the caller closes."""
        self.engine = engine

    async def generate(self, items: Sequence[GeneratedItem]) -> None:
        """Continue all prompts greedily, each by its number of tokens."""

        async def send(item: GeneratedItem) -> None:
            sampling = SamplingParams(max_tokens=item.new_tokens, ignore_eos=True)
            steer = steering(item.intervention, vector=item.vector)
            request = GenerateRequest(prompt=item.prompt, sampling=sampling, stream=False, steering=steer)
            async for _ in self.engine.generate(request):
                pass

        await _run_all([send(item) for item in items])

    async def score(self, items: Sequence[ScoredItem]) -> None:
        """Score all options."""

        async def send(item: ScoredItem) -> None:
            request = ScoreRequest(context=item.context, continuation=item.option, steering=steering(item.intervention))
            await self.engine.score(request)

        await _run_all([send(item) for item in items])

    async def record(self, sentences: Sequence[Sentence]) -> None:
        """Record the activations of all sentences."""
        await self.engine.record(sentences, RecordRequest(max_tokens=10**9))

    async def plain(self, prompts: Sequence[dict[str, Any]], sampling: dict[str, Any]) -> None:
        """Run requests without interventions; see `run_plain`."""
        await self.engine._loop.call(partial(run_plain, prompts=prompts, sampling=sampling))  # noqa: SLF001


async def _run_all(requests: Sequence[Coroutine[None, None, None]]) -> None:
    """Run all requests, at most IN_FLIGHT at once."""
    slots = asyncio.Semaphore(IN_FLIGHT)

    async def run(request: Coroutine[None, None, None]) -> None:
        async with slots:
            await request

    await asyncio.gather(*map(run, requests))
