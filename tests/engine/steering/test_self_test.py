"""An engine that does not steer fails its self-test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable

import pytest

from ampsweep.domain.generation.chunk import Chunk, TokenLogprob
from ampsweep.errors import SteeringNotInstalled
from engine.base import GenerateRequest, Score, ScoreRequest
from engine.fake import FakeEngine
from engine.steering.self_test import self_test

Request = ScoreRequest | GenerateRequest


class Answering(FakeEngine):
    """An engine whose log-probabilities come from the function `answer`."""

    def __init__(self, answer: Callable[[Request], float]) -> None:
        super().__init__()
        self._answer = answer

    async def score(self, request: ScoreRequest) -> Score:
        return Score(token_ids=(1,), logprobs=(self._answer(request),), context_tokens=1)

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Chunk]:
        yield Chunk(
            text="a",
            token_ids=(1,),
            token_texts=("a",),
            text_offsets=(0,),
            logprobs=(-0.5,),
            top_logprobs=((TokenLogprob(1, -0.5, "a"), TokenLogprob(2, self._answer(request), "b")),),
            prompt_tokens=1,
        )


def strong(request: Request) -> bool:
    """Whether a request asks for a strong intervention, on neurons or on the residual stream."""
    if request.steering is None:
        return False
    intervention = request.steering.intervention
    return intervention.op == "set" or (intervention.vector is not None and intervention.factor != 0)


def test_an_engine_that_steers_every_layer_passes() -> None:
    asyncio.run(self_test(Answering(lambda request: -5.0 if strong(request) else -1.0)))


def test_an_engine_that_never_steers_is_refused() -> None:
    with pytest.raises(SteeringNotInstalled, match=r"had no effect in layers \[0, 1"):
        asyncio.run(self_test(Answering(lambda _: -1.0)))


def test_an_engine_that_misses_one_layer_is_refused() -> None:
    def answer(request: Request) -> float:
        layers = request.steering.intervention.layers if request.steering else None
        return -5.0 if strong(request) and layers != (1,) else -1.0

    with pytest.raises(SteeringNotInstalled, match=r"had no effect in layers \[1\]"):
        asyncio.run(self_test(Answering(answer)))


def test_an_engine_is_rejected_if_it_steers_neurons_alone() -> None:
    def answer(request: Request) -> float:
        on_neurons = request.steering is not None and request.steering.intervention.vector is None
        return -5.0 if strong(request) and on_neurons else -1.0

    with pytest.raises(SteeringNotInstalled, match=r"on the residual stream had no effect in layers \[0, 1"):
        asyncio.run(self_test(Answering(answer)))


def test_an_engine_is_rejected_if_a_neutral_intervention_changes_one_bit() -> None:
    with pytest.raises(SteeringNotInstalled, match="a neutral intervention on neurons changed"):
        asyncio.run(self_test(Answering(lambda request: -1.0 if request.steering is None else -1.0000000000000002)))


def test_an_engine_is_rejected_if_it_misses_a_layer_in_decode_steps_alone() -> None:
    def answer(request: Request) -> float:
        intervention = None if request.steering is None else request.steering.intervention
        missed = intervention is not None and intervention.scope == "generation" and intervention.layers == (1,)
        return -5.0 if strong(request) and not missed else -1.0

    with pytest.raises(SteeringNotInstalled, match=r"on neurons in decode steps had no effect in layers \[1\]"):
        asyncio.run(self_test(Answering(answer)))


def test_what_changes_only_among_less_likely_tokens_is_an_effect_of_a_decode_step() -> None:
    asyncio.run(self_test(Answering(lambda request: -1.5 if strong(request) else -1.0)))
