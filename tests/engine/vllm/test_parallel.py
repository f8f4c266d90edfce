"""A model on four workers, divided by layers and by neurons, answers like one; if a worker dies, all requests fail.

One engine serves all tests of this module, the last of which kills it.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from ampsweep.domain.generation.sampling import SamplingParams
from ampsweep.errors import EngineFailed
from ampsweep.folders.corpus import Sentence
from engine.base import Engine, GenerateRequest, ScoreRequest, Steering
from engine.identify.record_request import RecordRequest
from engine.vllm.settings import VllmSettings
from tests.engine.both_engines import Both, both_engines
from tests.engine.gpus import needs_gpus

pytestmark = [pytest.mark.engine, needs_gpus(4)]

SETTINGS = VllmSettings(
    slots=4,
    max_num_seqs=16,
    max_num_batched_tokens=64,
    block_size=32,
    kv_cache_bytes=16 * 1024**2,
    compile=False,
    tensor_parallel_size=2,
    pipeline_parallel_size=2,
)
TEXT = "in the beginning there was the sea and the wind and the rain"


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLLM_WORKER_SHUTDOWN_TIMEOUT_SECONDS", "1")
        with both_engines("llama", tmp_path_factory.mktemp("llama"), SETTINGS) as engines:
            yield engines


def steerings(both: Both) -> list[Steering | None]:
    """Return interventions on all layers and on one stage, with patch values and with scopes, and none."""
    return [
        both.steering(["fr"], "set", 2.0),
        both.steering(["tr"], "scale", -2.0, layers=[0], scope="generation"),
        both.steering(["en"], "set", None, patch="max", layers=[2]),
        both.steering(["en", "fr"], "add", 1.0, patch="mean", scope="prompt"),
        both.steering(["fr"], "scale", 3.0, layers=[1, 2]),
        None,
    ]


async def generate(engine: Engine, request: GenerateRequest) -> tuple[list[int], list[float]]:
    tokens: list[int] = []
    logprobs: list[float] = []
    async for chunk in engine.generate(request):
        tokens.extend(chunk.token_ids)
        logprobs.extend(chunk.logprobs)
    return tokens, logprobs


def test_generation_and_scores_equal_the_reference(both: Both) -> None:
    generated = [
        GenerateRequest(prompt=TEXT, sampling=SamplingParams(max_tokens=6), steering=steering)
        for steering in steerings(both)
    ]
    scored = [
        ScoreRequest(context=TEXT, continuation=" and the tree", steering=steering) for steering in steerings(both)
    ]

    async def all_of(engine: Engine) -> Any:
        return await asyncio.gather(
            asyncio.gather(*(generate(engine, request) for request in generated)),
            asyncio.gather(*(engine.score(request) for request in scored)),
        )

    (answers, scores), (reference_answers, reference_scores) = (
        both.run(all_of(both.vllm)),
        both.run(all_of(both.reference)),
    )
    for (tokens, logprobs), (reference_tokens, reference_logprobs) in zip(answers, reference_answers, strict=True):
        assert tokens == reference_tokens
        np.testing.assert_allclose(logprobs, reference_logprobs, rtol=0, atol=1e-4)
    for mine, reference in zip(scores, reference_scores, strict=True):
        np.testing.assert_allclose(mine.logprobs, reference.logprobs, rtol=0, atol=1e-4)


def test_a_recording_equals_the_reference(both: Both) -> None:
    sentences = [
        Sentence(language=code, text=f"{code} {number} {TEXT}") for code in ("en", "fr") for number in range(3)
    ]
    ours = both.run(both.vllm.record(sentences, RecordRequest(max_tokens=1000, residual_counts=True)))
    reference = both.run(both.reference.record(sentences, RecordRequest(max_tokens=1000, residual_counts=True)))
    np.testing.assert_array_equal(ours.counts, reference.counts)
    np.testing.assert_allclose(ours.patch_max, reference.patch_max, rtol=0, atol=1e-5)
    assert ours.residual_counts is not None
    assert reference.residual_counts is not None
    np.testing.assert_array_equal(ours.residual_counts, reference.residual_counts)


def test_a_worker_that_dies_fails_all_requests_and_ends_the_engine(both: Both) -> None:
    endless = GenerateRequest(prompt=TEXT, sampling=SamplingParams(max_tokens=400, ignore_eos=True))

    async def check() -> None:
        streams = [both.vllm.generate(endless) for _ in range(2)]
        for stream in streams:
            await anext(stream)
        ended = asyncio.create_task(both.vllm.ended())
        victim = await both.vllm._loop.call(lambda engine: int(engine.model_executor.workers[1].proc.pid))
        os.kill(victim, signal.SIGKILL)
        for stream in streams:
            with pytest.raises(EngineFailed, match="the engine died"):
                async for _ in stream:
                    pass
        assert "the engine died" in await ended
        with pytest.raises(EngineFailed, match="the engine died"):
            await both.vllm.score(ScoreRequest(context=TEXT, continuation=" and"))

    both.run(asyncio.wait_for(check(), 60))
