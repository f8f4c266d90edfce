"""NaN is never a result: a request whose log-probabilities are no numbers is rejected, with the reason and a remedy."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator

import pytest

from ampsweep.domain.generation.sampling import SamplingParams
from ampsweep.domain.intervention import Intervention
from ampsweep.errors import InvalidRequest
from benchmarks.comparisons.mixed_load import random_neurons
from benchmarks.models.families import Family
from engine.base import GenerateRequest, ScoreRequest, Steering
from engine.hf.engine import TransformersEngine
from engine.overflow import require_numbers


@pytest.mark.parametrize("steered", [True, False])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_only_a_wider_dtype_is_a_remedy(dtype: str, *, steered: bool) -> None:
    require_numbers([None, -1.0, -math.inf, 0.0], dtype=dtype, steered=steered)
    with pytest.raises(InvalidRequest, match=f"NaN.*in {dtype}") as rejected:
        require_numbers([None, -1.0, math.nan], dtype=dtype, steered=steered)
    assert rejected.value.param == ("intervention" if steered else "model")
    assert ("--dtype bfloat16" in rejected.value.message) == (dtype == "float16")
    assert ("smaller factor" in rejected.value.message) == steered


@pytest.fixture(scope="module")
def half(model_folder: Callable[[Family], object]) -> Iterator[TransformersEngine]:
    """Return the transformers engine on a tiny model in float16, whose largest number is 65504."""
    engine = TransformersEngine(model_folder("llama"), dtype="float16")  # type: ignore[arg-type]
    engine.add_neurons(random_neurons(engine.info))
    yield engine
    asyncio.run(engine.close())


def steering(engine: TransformersEngine, factor: float, **more: object) -> Steering:
    raw = {"languages": ["fr"], "op": "set", "factor": factor, **more}
    return Steering(intervention=Intervention.from_dict(raw), neurons=random_neurons(engine.info).id)


def score(engine: TransformersEngine, factor: float) -> tuple[float, ...]:
    request = ScoreRequest(context="the sea", continuation=" and the sand", steering=steering(engine, factor))
    return asyncio.run(engine.score(request)).logprobs


def test_a_score_that_overflows_is_rejected_and_others_are_not_affected(half: TransformersEngine) -> None:
    before = score(half, 2.0)
    with pytest.raises(InvalidRequest, match="the intervention is too strong") as rejected:
        score(half, 1e6)
    assert rejected.value.param == "intervention"
    assert score(half, 2.0) == before


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("scope", ["all", "generation"])
def test_an_answer_that_overflows_is_rejected(half: TransformersEngine, temperature: float, scope: str) -> None:
    sampling = SamplingParams(max_tokens=3, temperature=temperature, ignore_eos=True)
    request = GenerateRequest(prompt="the sea", sampling=sampling, steering=steering(half, 1e6, scope=scope))
    seen: list[int] = []

    async def read() -> None:
        async for chunk in half.generate(request):
            seen.extend(chunk.token_ids)

    with pytest.raises(InvalidRequest, match="the intervention is too strong"):
        asyncio.run(read())
    assert len(seen) == (1 if scope == "generation" else 0), "the first token does not depend on the answer"
