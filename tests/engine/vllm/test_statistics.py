"""vLLM gives the answers of the reference implementation with statistics and weights, on one rank and on two."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest

from ampsweep.domain.generation.sampling import SamplingParams
from engine.base import Engine, GenerateRequest, ScoreRequest, Steering
from engine.vllm.settings import VllmSettings
from tests.engine.both_engines import Both, both_engines
from tests.engine.gpus import needs_gpus

pytestmark = pytest.mark.engine

SETTINGS = VllmSettings(
    slots=6, max_num_seqs=16, max_num_batched_tokens=32, block_size=32, kv_cache_bytes=64 * 1024**2, compile=False
)
PROMPT = "in the beginning there was the sea and the wind and the rain and then another day in the sand"
WORDS = ("mean", "std", "median", "max", "iqr", "mad", "p0", "p5", "p97.5", "p100")


@pytest.fixture(scope="module", params=[1, pytest.param(2, marks=needs_gpus(2))], ids=["one-rank", "two-ranks"])
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    settings = replace(SETTINGS, tensor_parallel_size=request.param)
    with both_engines("qwen2", tmp_path_factory.mktemp("qwen2"), settings) as engines:
        yield engines


def interventions(both: Both) -> list[Steering | None]:
    weights = {"fr": 0.5, "tr": -1.0}
    ask = both.steering
    return [
        None,
        *(ask(["fr"], op, 1.5, statistic=word) for word in WORDS for op in ("set", "add")),
        ask(["en", "fr"], "set", None, statistic="p90", scope="prompt"),
        ask(["en", "fr"], "set", -1.0, statistic="max", scope="generation"),
        ask(["tr"], "add", 2.0, statistic="std", layers=[1]),
        ask(["tr"], "set", 2.0, statistic="iqr", selection="random"),
        ask(["fr"], "add", 2.0, statistic="mean", non_target={"op": "set", "factor": 0.25}),
        ask(["fr"], "add", 0.0, statistic="max"),
        ask(weights, "set", 2.0, statistic="mad"),
        ask(weights, "scale", 3.0),
        ask(weights, "set", 1.0, patch="mean", non_target={"op": "scale", "factor": 0.5}),
        ask({"en": 2.0, "fr": 0.25, "tr": 1.0}, "add", 0.5, layers=[0, 2], scope="generation"),
    ]


async def answers(engine: Engine, steerings: Sequence[Steering | None]) -> list[tuple[list[int], list[float]]]:
    """Generate and score with all steerings concurrently; return token ids and log-probabilities."""

    async def one(index: int, steering: Steering | None) -> tuple[list[int], list[float]]:
        prompt = PROMPT[: 20 + 3 * index]
        scored = await engine.score(ScoreRequest(context=prompt, continuation=" and the end", steering=steering))
        tokens, logprobs = list(scored.token_ids), list(scored.logprobs)
        request = GenerateRequest(prompt=prompt, sampling=SamplingParams(max_tokens=6), steering=steering)
        async for chunk in engine.generate(request):
            tokens += chunk.token_ids
            logprobs += chunk.logprobs
        return tokens, logprobs

    return await asyncio.gather(*(one(index, steering) for index, steering in enumerate(steerings)))


def test_statistics_and_weights_equal_the_reference(both: Both) -> None:
    steerings = interventions(both)
    ours, references = (both.run(answers(engine, steerings)) for engine in (both.vllm, both.reference))
    for (tokens, logprobs), (expected_tokens, expected_logprobs) in zip(ours, references, strict=True):
        assert tokens == expected_tokens
        np.testing.assert_allclose(logprobs, expected_logprobs, rtol=0, atol=1e-4)


def test_every_statistic_changes_the_answer_in_its_own_way(both: Both) -> None:
    async def scores() -> list[float]:
        statistics = [both.steering(["fr"], "set", 1.5, statistic=word) for word in WORDS]
        requests = [
            ScoreRequest(context=PROMPT, continuation=" end", steering=steering) for steering in (None, *statistics)
        ]
        return [sum(score.logprobs) for score in await asyncio.gather(*map(both.vllm.score, requests))]

    logprobs = both.run(scores())
    assert len({round(value, 5) for value in logprobs}) == 1 + len(WORDS) - 1  # p100 is the largest
