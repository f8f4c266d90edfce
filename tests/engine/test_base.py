"""The statistics of the engines without vLLM; `vllm/test_pressure.py` compares vLLM's with the reference."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ampsweep.domain.generation.sampling import SamplingParams
from benchmarks.models.families import Family
from engine.base import Engine, EngineStats, GenerateRequest, ScoreRequest
from engine.fake import FakeEngine
from engine.hf.engine import TransformersEngine

TEXT = "in the beginning there was the sea and the wind"


async def stats_of_work(engine: Engine) -> tuple[EngineStats, EngineStats, EngineStats]:
    """Return the statistics before, during and after some work: two answers of 6 tokens and one score."""
    before = engine.stats()
    sampling = SamplingParams(max_tokens=6, n=2, temperature=1.0, seed=1, ignore_eos=True)
    answers = engine.generate(GenerateRequest(prompt=TEXT, sampling=sampling))
    await anext(answers)
    during = engine.stats()
    async for _ in answers:
        pass
    await engine.score(ScoreRequest(context=TEXT, continuation=" and the rain"))
    return before, during, engine.stats()


def increase(before: EngineStats, after: EngineStats) -> dict[str, int]:
    names = ("prompt_tokens", "generated_tokens", "steps", "step_requests")
    return {name: getattr(after, name) - getattr(before, name) for name in names}


def test_the_fake_engine_counts_bytes_and_words() -> None:
    before, during, after = asyncio.run(stats_of_work(FakeEngine()))
    text = len(TEXT.encode())
    assert increase(before, after) == {
        "prompt_tokens": 3 * text + len(" and the rain"),
        "generated_tokens": 12,
        "steps": 13,
        "step_requests": 13,
    }
    assert before.prompt_tokens == 0
    assert during.generated_tokens == 1
    assert after.running == 0


def test_the_reference_counts_the_prompt_once_per_answer_and_runs_one_request_per_step(
    reference: Callable[[Family], TransformersEngine],
) -> None:
    engine = reference("llama")
    before, during, after = asyncio.run(stats_of_work(engine))
    counted = increase(before, after)
    assert (counted["generated_tokens"], counted["steps"]) == (12, 13)
    assert counted["prompt_tokens"] > 3 * during.prompt_tokens - 3 * before.prompt_tokens
    assert during.prompt_tokens > before.prompt_tokens, "at least one answer has begun"
    assert (after.running, after.waiting, after.batch_size) == (0, 0, 1)
    assert (after.kv_use, after.slots) == (None, 0)
