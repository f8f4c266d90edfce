"""Requests that overflow in float16, and a check that they change no later answer."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np

from ampsweep.domain.intervention import Intervention
from ampsweep.errors import InvalidRequest
from benchmarks.comparisons.mixed_load import PROMPT, random_neurons
from engine.base import Engine, ScoreRequest, Steering

STRONG = Intervention.from_dict({"languages": ["fr"], "op": "set", "factor": 1e6, "scope": "generation"})
"""An intervention that sets activations far above 65504, the largest number of float16."""
_TOLERANCE = 0.05
"""How far rounding moves a log-probability of a tiny model in float16, with room."""


async def assert_no_trace(engine: Engine, *, requests: int = 40) -> None:
    """Assert that answers stay what they were after overflows, when every block of the cache has been used again.

    Args:
        engine: A float16 engine on a model of `benchmarks.models.families`.
        requests: How many overflow; more than the engine's cache has blocks.
    """
    neurons = random_neurons(engine.info)
    engine.add_neurons(neurons)
    steering = Steering(intervention=STRONG, neurons=neurons.id)
    plain = [ScoreRequest(context=PROMPT, continuation=f" {number} there was") for number in range(requests)]
    before = await asyncio.gather(*map(engine.score, plain))
    overflows = (engine.score(replace(request, steering=steering)) for request in plain)
    outcomes = await asyncio.gather(*overflows, return_exceptions=True)
    assert all(isinstance(outcome, InvalidRequest) for outcome in outcomes), "not every request overflowed"
    after = await asyncio.gather(*map(engine.score, plain))
    for score, earlier in zip(after, before, strict=True):
        np.testing.assert_allclose(score.logprobs, earlier.logprobs, rtol=0, atol=_TOLERANCE)
