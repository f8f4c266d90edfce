"""Requests that the mixed load does not have: whole answers, likely tokens, adapters, and requests that end early."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import numpy as np

from ampsweep.domain.generation.sampling import SamplingParams
from ampsweep.domain.intervention import Intervention
from ampsweep.errors import InvalidRequest
from benchmarks.comparisons.mixed_load import INTERVENTIONS, PROMPT, random_neurons
from engine.base import Engine, GenerateRequest, ScoreRequest, Steering
from engine.vllm.engine import VllmEngine
from tests.engine.neuron_sets import TOO_STRONG, with_a_strong_language

STRONG_SET = "ns_strong"
LONG_PROMPT = f"{PROMPT} {PROMPT[:30]}"
"""Tokens of two steps."""
_ABORTED_PROMPT = f"{PROMPT} {PROMPT}"
"""Tokens of more steps than are scheduled ahead."""
_CHOSEN = (0, 1, 4, 7)
"""Interventions of the mixed load: on a neuron set, none, on one layer, and with a vector."""
_SAMPLING = SamplingParams(max_tokens=4, ignore_eos=True, top_logprobs=2)


async def whole_answers(engine: Engine, *, adapter: str | None = None) -> dict[str, Any]:
    """Return whole answers under some interventions: their token ids and the log-probabilities of likely tokens.

    Args:
        engine: The engine.
        adapter: The LoRA adapter of the requests.
    """
    neurons = random_neurons(engine.info)
    engine.add_neurons(neurons)

    async def answer(number: int) -> tuple[list[int], list[float]]:
        request = GenerateRequest(
            prompt=LONG_PROMPT if number == 0 else f"{PROMPT} {number}",
            sampling=_SAMPLING,
            steering=_steering(INTERVENTIONS[number], neurons.id),
            stream=False,
            adapter=adapter,
        )
        chunks = [chunk async for chunk in engine.generate(request)]
        likely = [each.logprob for chunk in chunks for entries in chunk.top_logprobs for each in entries]
        return [token for chunk in chunks for token in chunk.token_ids], likely

    tokens, logprobs = zip(*await asyncio.gather(*map(answer, _CHOSEN)), strict=True)
    return {"tokens": list(tokens), "logprobs": list(logprobs)}


def assert_same_answers(results: dict[str, Any], expected: dict[str, Any]) -> None:
    """Assert that whole answers are those of the reference implementation, log-probabilities to 1e-4."""
    assert results["tokens"] == expected["tokens"]
    assert all(len(likely) == 2 * len(tokens) for tokens, likely in zip(*results.values(), strict=True))
    for likely, reference in zip(results["logprobs"], expected["logprobs"], strict=True):
        np.testing.assert_allclose(likely, reference, rtol=0, atol=1e-4)


async def overflow(engine: VllmEngine) -> str:
    """Return the error of a request, on the neuron set `STRONG_SET`, that overflows beside one that does not."""
    neurons = random_neurons(engine.info)
    strong = replace(with_a_strong_language(neurons), id=STRONG_SET)
    for each in (neurons, strong):
        engine.add_neurons(each)
    steerings = [
        _steering({**TOO_STRONG, "scope": "generation"}, strong.id),
        _steering(INTERVENTIONS[0], neurons.id),
    ]

    async def answer(steering: Steering | None) -> None:
        async for _ in engine.generate(GenerateRequest(prompt=PROMPT, sampling=_SAMPLING, steering=steering)):
            pass

    error, fine = await asyncio.gather(*map(answer, steerings), return_exceptions=True)
    assert isinstance(error, InvalidRequest)
    assert fine is None
    return error.message


async def abort_in_prefill(engine: VllmEngine) -> int:
    """Cancel a steered request between two steps of its prompt, and return the slots in use after a further step."""
    neurons = random_neurons(engine.info)
    engine.add_neurons(neurons)
    prompt = len(engine.encoder.prompt(_ABORTED_PROMPT, max_tokens=1000))
    steering = _steering(INTERVENTIONS[3], neurons.id)

    async def answer() -> None:
        request = GenerateRequest(prompt=_ABORTED_PROMPT, sampling=_SAMPLING, steering=steering)
        async for _ in engine.generate(request):
            raise AssertionError("it was not cancelled in time")

    def computed(llm_engine: Any) -> list[int]:
        requests = llm_engine.engine_core.engine_core.scheduler.requests.values()
        return [request.num_computed_tokens for request in requests]

    answering = asyncio.create_task(answer())
    while not any(tokens := await engine._loop.call(computed)):
        assert not answering.done()
    answering.cancel()
    assert tokens[0] < prompt
    (outcome,) = await asyncio.gather(answering, return_exceptions=True)
    assert isinstance(outcome, asyncio.CancelledError)
    await engine.score(ScoreRequest(context="the", continuation=" end"))  # a step tells the workers who has ended
    return await engine.slots_in_use()


def _steering(raw: dict[str, Any] | None, neuron_set: str) -> Steering | None:
    return None if raw is None else Steering(intervention=Intervention.from_dict(raw), neurons=neuron_set)
