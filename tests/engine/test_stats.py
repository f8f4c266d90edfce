"""Engines in numbers: the same requests are counted alike by all that have the same tokenizer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.fake import FakeEngine
from engine.protocol import Engine, GenerateRequest, Sampling, ScoreRequest
from engine.stats import EngineStats
from engine.transformers_engine import TransformersEngine
from engine.vllm_engine import VllmEngine
from engine.vllm_patch.launch import VllmSettings
from tests.models import Family

TEXT = "in the beginning there was the sea and the wind"
SETTINGS = VllmSettings(slots=3, max_num_seqs=4, max_model_len=128, compile=False, kv_cache_bytes=64 * 1024**2)


async def worked(engine: Engine) -> tuple[EngineStats, EngineStats, EngineStats]:
    """Return the numbers before, in the midst of and after some work: two answers of 6 tokens, and a score."""
    before = engine.stats()
    sampling = Sampling(max_tokens=6, n=2, temperature=1.0, seed=1, ignore_eos=True)
    answers = engine.generate(GenerateRequest(prompt=TEXT, sampling=sampling))
    await anext(answers)
    during = engine.stats()
    async for _ in answers:
        pass
    await engine.score(ScoreRequest(context=TEXT, continuation=" and the rain"))
    return before, during, engine.stats()


def since(before: EngineStats, after: EngineStats) -> dict[str, int]:
    names = ("prompt_tokens", "generated_tokens", "steps", "step_requests")
    return {name: getattr(after, name) - getattr(before, name) for name in names}


def test_the_fake_engine_counts_bytes_and_words() -> None:
    before, during, after = asyncio.run(worked(FakeEngine()))
    text = len(TEXT.encode())
    assert since(before, after) == {
        "prompt_tokens": 3 * text + len(" and the rain"),
        "generated_tokens": 12,
        "steps": 13,
        "step_requests": 13,
    }
    assert before.prompt_tokens == 0
    assert during.generated_tokens == 1
    assert after.running == 0


def test_the_oracle_counts_each_answer_and_gives_way_a_step_at_a_time(
    oracle: Callable[[Family], TransformersEngine],
) -> None:
    engine = oracle("llama")
    before, during, after = asyncio.run(worked(engine))
    counted = since(before, after)
    assert (counted["generated_tokens"], counted["steps"]) == (12, 13)
    assert counted["prompt_tokens"] > 3 * during.prompt_tokens - 3 * before.prompt_tokens
    assert during.prompt_tokens > before.prompt_tokens, "one of the two has begun"
    assert (after.running, after.waiting, after.batch_size) == (0, 0, 1)
    assert (after.kv_use, after.slots) == (None, 0)


@pytest.mark.engine
def test_vllm_counts_what_the_oracle_counts_and_shows_how_full_it_is(
    oracle: Callable[[Family], TransformersEngine], model_folder: Callable[[Family], Path]
) -> None:
    async def check() -> tuple[EngineStats, EngineStats, EngineStats, int]:
        engine = await VllmEngine.open(model_folder("llama"), settings=SETTINGS)
        try:
            before, during, after = await worked(engine)
            await engine._loop.call(lambda _: None)  # the step that saw the last one go is over
            idle = engine.stats()
        finally:
            await engine.close()
        return before, during, after, idle.running + idle.waiting

    before, during, after, left = asyncio.run(check())
    own, _, theirs = asyncio.run(worked(oracle("llama")))
    counted, expected = since(before, after), since(own, theirs)
    assert counted["generated_tokens"] == expected["generated_tokens"] == 12
    assert counted["prompt_tokens"] == expected["prompt_tokens"] - 1, "vLLM is not fed a scored text's last token"
    assert counted["steps"] >= 7
    assert counted["steps"] <= counted["step_requests"] <= 2 * counted["steps"]
    assert (during.running, during.slots, during.batch_size) == (2, 3, 4)
    assert during.kv_use is not None
    assert 0 < during.kv_use < 1
    assert left == 0
