"""Settings of an engine with little memory, more requests than fit into it, and what it does with them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ampsweep.domain.generation.chunk import Chunk
from ampsweep.domain.generation.sampling import SamplingParams
from engine.base import Engine, GenerateRequest, Score, ScoreRequest, Steering
from engine.vllm.requests.request_extras import RequestExtras
from engine.vllm.settings import VllmSettings
from tests.engine.both_engines import Both

BLOCK = 32
BLOCK_BYTES = 3 * 2 * 2 * 32 * 4 * BLOCK  # layers, keys and values, heads, size of a head, bytes, tokens
SETTINGS = VllmSettings(
    slots=3,
    max_num_seqs=4,
    max_model_len=5 * BLOCK,
    max_num_batched_tokens=16,
    block_size=BLOCK,
    kv_cache_bytes=8 * BLOCK_BYTES,
    compile=False,
)
TEXT = "in the beginning there was the sea and the wind and the rain and then another day in the sand by the tree"
GREEDY = SamplingParams(max_tokens=70, ignore_eos=True)


def scheduler(engine: Any) -> Any:
    return engine.engine_core.engine_core.scheduler


async def free_blocks(both: Both) -> int:
    return await both.vllm._loop.call(
        lambda engine: int(scheduler(engine).kv_cache_manager.block_pool.get_num_free_blocks())
    )


@contextmanager
def preempted(both: Both) -> Iterator[Counter[str]]:
    """Count the preemptions within the block, by what the request carries: `steer`, `score` or `record`."""
    counts: Counter[str] = Counter()

    def count(preempt: Callable[..., None]) -> Callable[..., None]:
        def counting(request: Any, *args: Any, **kwargs: Any) -> None:
            extras = vars(RequestExtras.read(request.sampling_params.extra_args))
            counts.update(kind for kind, order in extras.items() if order is not None)
            preempt(request, *args, **kwargs)

        return counting

    def wrap(engine: Any) -> None:
        scheduler(engine)._preempt_request = count(scheduler(engine)._preempt_request)

    both.run(both.vllm._loop.call(wrap))
    yield counts
    both.run(both.vllm._loop.call(lambda engine: delattr(scheduler(engine), "_preempt_request")))


async def generate(engine: Engine, request: GenerateRequest) -> dict[int, tuple[list[int], list[float]]]:
    """Return the tokens of each answer and their log-probabilities."""
    answers: dict[int, tuple[list[int], list[float]]] = {}
    async for chunk in engine.generate(request):
        tokens, logprobs = answers.setdefault(chunk.index, ([], []))
        tokens.extend(chunk.token_ids)
        logprobs.extend(chunk.logprobs)
    return answers


async def answers(engine: Engine, requests: list[GenerateRequest]) -> list[dict[int, tuple[list[int], list[float]]]]:
    return await asyncio.gather(*(generate(engine, request) for request in requests))


async def scores(engine: Engine, requests: list[ScoreRequest]) -> list[Score]:
    return await asyncio.gather(*(engine.score(request) for request in requests))


def assert_same(ours: list[dict[int, Any]], theirs: list[dict[int, Any]]) -> None:
    for mine, other in zip(ours, theirs, strict=True):
        assert {index: tokens for index, (tokens, _) in mine.items()} == {
            index: tokens for index, (tokens, _) in other.items()
        }
        for index, (_, logprobs) in mine.items():
            np.testing.assert_allclose(logprobs, other[index][1], rtol=0, atol=1e-4)


def steerings(both: Both) -> list[Steering | None]:
    """Return eight interventions, which are more than there are slots, and none."""
    return [
        both.steering(["fr"], "set", 2.0),
        both.steering(["fr"], "set", 2.0, scope="prompt"),
        both.steering(["fr"], "set", 2.0, scope="generation"),
        both.steering(["tr"], "scale", -2.0),
        both.steering(["en"], "add", 1.0, layers=[1]),
        both.steering(["en", "tr"], "scale", 3.0, scope="generation", tokens={"start": 3, "end": 9}),
        both.steering(["fr"], "set", 2.0, scope="generation", tokens={"decay": 0.9}),
        both.steering(["tr"], "add", 1.0, scope="prompt"),
        None,
    ]


async def collect(engine: Engine, request: GenerateRequest) -> list[Chunk]:
    return [chunk async for chunk in engine.generate(request)]


def growing(both: Both) -> list[GenerateRequest]:
    """Return requests that leave a place in the batch free, and whose answers take blocks from a chunked prefill."""
    choices = (both.steering(["fr"], "set", 2.0), None, both.steering(["tr"], "scale", -2.0))
    return [
        GenerateRequest(prompt=f"{number} {TEXT[:20]}", sampling=GREEDY, steering=steering)
        for number, steering in enumerate(choices)
    ]
