"""Slots are reused safely while vLLM schedules ahead: every answer is that of the same request alone.

vLLM schedules ahead on GPUs only. Here a CPU does it too, with stand-ins for the streams and events of CUDA, so that
the scheduler gives out slots of requests that the step in flight still computes. The cache is so small that requests
preempt each other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ampsweep.domain.generation.chunk import Span, joined_spans
from ampsweep.domain.generation.sampling import SamplingParams
from ampsweep.domain.intervention import Intervention
from benchmarks.comparisons.checksum_identifier import OFTEN, ChecksumIdentifier
from benchmarks.comparisons.mixed_load import random_neurons
from benchmarks.models.families import tiny_model
from engine.base import GenerateRequest, ScoreRequest, Steering
from engine.neurons.neuron_set import NeuronSet
from engine.vllm.engine import VllmEngine
from engine.vllm.settings import VllmSettings
from tests.engine.scheduling_ahead import schedule_ahead
from tests.engine.vllm.pressure import BLOCK, BLOCK_BYTES, TEXT

pytestmark = pytest.mark.engine

Answer = tuple[list[int], list[float], list[Span] | None]
WORDS = TEXT.split()
STOP = "e"
"""Ends some answers where the scheduler cannot foresee it, so that a further token is already in flight."""


class _Stream:
    device = "cpu"

    def wait_stream(self, other: object) -> None: ...


class _Event:
    def __init__(self, *_: object, **__: object) -> None: ...

    def record(self, *_: object) -> None: ...

    def synchronize(self) -> None: ...


@contextmanager
def scheduling_ahead() -> Iterator[None]:
    """Let vLLM schedule ahead within the block, with stand-ins for the streams and events of CUDA."""
    import torch

    with pytest.MonkeyPatch.context() as patch:
        schedule_ahead(patch)
        patch.setattr(torch.cuda, "Stream", _Stream)
        patch.setattr(torch.cuda, "Event", _Event)
        patch.setattr(torch.cuda, "current_stream", lambda *_: _Stream())
        patch.setattr(torch.cuda, "stream", lambda _: nullcontext())
        yield


def request(index: int, interventions: int, neurons: NeuronSet) -> GenerateRequest:
    """Return request number `index`; every eighth is not steered, and the steering of every fifth is switched."""
    which = index * 7 % interventions
    raw: dict[str, Any] = {
        "languages": [("fr", "tr")[which % 2]],
        "op": ("scale", "set", "add")[which % 3],
        "factor": 0.5 + 4.0 * which / interventions,
        "scope": ("all", "generation", "prompt")[which % 5 % 3] if index % 5 else "all",
        "tokens": (None, {"start": 1, "decay": 0.8}, {"positions": [0, 2, 5]})[which % 4 % 3] if index % 5 else None,
        "when": None if index % 5 else OFTEN,
    }
    steering = None if index % 8 == 7 else Steering(intervention=Intervention.from_dict(raw), neurons=neurons.id)
    more = 0 if index % 5 else 20
    sampling = SamplingParams(max_tokens=4 + index % 13 + more, ignore_eos=True, stop=(STOP,) if index % 3 == 0 else ())
    prompt = " ".join(WORDS[index % 5 : index % 5 + 4 + index % 16])
    return GenerateRequest(prompt=prompt, sampling=sampling, steering=steering)


async def answer(engine: VllmEngine, asked: GenerateRequest) -> Answer:
    tokens: list[int] = []
    logprobs: list[float] = []
    spans = []
    async for chunk in engine.generate(asked):
        tokens.extend(chunk.token_ids)
        logprobs.extend(chunk.logprobs)
        spans.append(chunk.steered_spans)
    return tokens, logprobs, joined_spans(spans)


async def preemptions(engine: VllmEngine) -> list[str]:
    """Collect the preempted requests from now on."""
    preempted: list[str] = []

    def watch(llm_engine: Any) -> None:
        scheduler = llm_engine.engine_core.engine_core.scheduler
        assert type(scheduler).__name__ == "AsyncScheduler"
        preempt = scheduler._preempt_request

        def counted(request: Any, *args: Any, **kwargs: Any) -> None:
            preempted.append(request.request_id)
            preempt(request, *args, **kwargs)

        scheduler._preempt_request = counted

    await engine._loop.call(watch)
    return preempted


@pytest.mark.parametrize(
    ("requests", "interventions", "slots"),
    [(160, 48, 6), pytest.param(2000, 400, 32, marks=pytest.mark.reliability)],
)
@pytest.mark.timeout(1800)
def test_every_answer_is_that_of_the_request_alone(
    requests: int, interventions: int, slots: int, tmp_path: Path
) -> None:
    settings = VllmSettings(
        slots=slots,
        max_num_seqs=slots + 2,
        max_model_len=5 * BLOCK,
        max_num_batched_tokens=64,
        block_size=BLOCK,
        kv_cache_bytes=(slots + 2) * BLOCK_BYTES,
        compile=False,
    )

    async def check() -> None:
        engine = await VllmEngine.open(
            tiny_model("llama", tmp_path), settings=settings, open_identifier=ChecksumIdentifier
        )
        try:
            neurons = random_neurons(engine.info)
            engine.add_neurons(neurons)
            preempted = await preemptions(engine)
            asked = [request(index, interventions, neurons) for index in range(requests)]
            together = await asyncio.gather(*(answer(engine, one) for one in asked))
            assert preempted
            assert len({tuple(tokens) for tokens, _, _ in together}) > interventions
            assert sum(spans is not None and len(spans) > 1 for _, _, spans in together) > requests // 40
            for one, ours in zip(asked, together, strict=True):
                alone = await answer(engine, one)
                assert (ours[0], ours[2]) == (alone[0], alone[2])
                np.testing.assert_allclose(ours[1], alone[1], rtol=0, atol=1e-4)
            assert await idle_slots(engine) == 0
        finally:
            await engine.close()

    with scheduling_ahead():
        asyncio.run(check())


async def idle_slots(engine: VllmEngine) -> int:
    """Return the slots in use after a step that tells the workers who has ended."""
    await engine.score(ScoreRequest(context="the", continuation=" end"))
    return await engine.slots_in_use()
