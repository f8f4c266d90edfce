"""Tests at every start that an engine steers. Without the test, a sweep could run unsteered unnoticed.

A neutral intervention must leave log-probabilities bit-identical, and a strong one in any single layer must change
them. Both are tried on neurons and on the residual stream, over a short text and in decode steps.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ampsweep.domain.choices import Scope
from ampsweep.domain.generation.chunk import Chunk
from ampsweep.domain.generation.prompt import Prompt, TokenIds
from ampsweep.domain.generation.sampling import SamplingParams
from ampsweep.domain.intervention import Intervention
from ampsweep.errors import SteeringNotInstalled
from engine.base import Engine, EngineInfo, GenerateRequest, ScoreRequest, Steering
from engine.neurons.neuron_set import NeuronSet
from engine.steering.vectors import random_directions

_CONTEXT = "0 1 2 3 4 5"
_CONTINUATION = " 6 7 8 9"
_MIN_CHANGE = 1e-3  # of a log-probability
_DECODED = 3
"""Generated tokens; the first comes from the last token of the prompt, which is not decoded."""
_LIKELIEST = 5
"""Tokens compared at each step: where one is certain, the others still show what has changed."""
_STRONG = 10.0
_LONG = 1000.0  # of a vector; residuals of some models are as long, and float16 still holds the sum
_LANGUAGE = "test"


class Tested(Protocol):
    """The parts of an `Engine` that every test needs."""

    @property
    def info(self) -> EngineInfo:
        """See `Engine.info`."""
        ...

    def add_neurons(self, neurons: NeuronSet) -> None:
        """See `Engine.add_neurons`."""
        ...


class Generating(Protocol):
    """The part of an `Engine` that generates."""

    def generate(self, request: GenerateRequest) -> AsyncGenerator[Chunk]:
        """See `Engine.generate`."""
        ...


Logprobs = tuple[tuple[int, float], ...]
"""Token ids and their log-probabilities."""


class Measure(Protocol):
    """What an intervention is tried on: `when` of the errors, and the tokens in its scope."""

    when: str
    scope: Scope

    async def run(self, steering: Steering | None) -> Logprobs:
        """Return log-probabilities under an intervention, or none."""
        ...


async def self_test(engine: Engine) -> NeuronSet:
    """Test that interventions take effect in every layer, and that neutral ones change nothing.

    Args:
        engine: The engine.

    Returns:
        The neuron set of the test, which stays loaded.

    Raises:
        SteeringNotInstalled: The test failed.
    """
    return await run_self_test(engine, [_Scored(engine), Decoded(engine, _CONTEXT, scope="generation")])


async def run_self_test(engine: Tested, measures: Sequence[Measure]) -> NeuronSet:
    """Do the same as `self_test`, with the measures that the engine offers."""
    neurons = _third_of_neurons(engine.info)
    engine.add_neurons(neurons)
    for measure in measures:
        test = _SelfTest(engine.info, neurons, measure)
        plain = await measure.run(None)
        await test.check(
            plain,
            where="neurons",
            layers=[layer for layer, width in enumerate(engine.info.widths.by_layer) if width],
            neutral={"op": "scale", "factor": 1.0},
            strong={"op": "set", "factor": _STRONG},
        )
        await test.check(
            plain,
            where="the residual stream",
            layers=range(engine.info.layers),
            neutral={"op": "add", "factor": 0.0, "vector": "diffmean"},
            strong={"op": "add", "factor": _LONG, "vector": "diffmean"},
        )
    return neurons


class _Scored:
    """The log-probabilities of a given text, all of whose tokens are steered."""

    when = ""
    scope: Scope = "all"

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def run(self, steering: Steering | None) -> Logprobs:
        request = ScoreRequest(context=_CONTEXT, continuation=_CONTINUATION, steering=steering)
        score = await self._engine.score(request)
        return tuple(zip(score.token_ids, score.logprobs, strict=True))


class Decoded:
    """The likeliest tokens of a few decode steps. On a GPU they run in graphs of their own.

    Args:
        engine: Generates them.
        prompt: What precedes them; its tokens are steered too with scope `all`.
        scope: The scope of the interventions, `all` or `generation`.
    """

    def __init__(self, engine: Generating, prompt: Prompt | TokenIds, *, scope: Scope) -> None:
        self._engine = engine
        self._prompt = prompt
        self.scope = scope
        self.when = " in decode steps" if scope == "generation" else " in generation"

    async def run(self, steering: Steering | None) -> Logprobs:
        """See `Measure.run`."""
        sampling = SamplingParams(max_tokens=_DECODED, ignore_eos=True, top_logprobs=_LIKELIEST)
        request = GenerateRequest(prompt=self._prompt, sampling=sampling, steering=steering)
        chunks = [chunk async for chunk in self._engine.generate(request)]
        likeliest = (token for chunk in chunks for tokens in chunk.top_logprobs for token in tokens)
        return tuple((token.token_id, token.logprob) for token in likeliest)


@dataclass(frozen=True)
class _SelfTest:
    """Tries interventions of a neuron set on one measure."""

    info: EngineInfo
    neurons: NeuronSet
    measure: Measure

    async def check(
        self,
        plain: Logprobs,
        *,
        where: str,
        layers: Sequence[int],
        neutral: Mapping[str, object],
        strong: Mapping[str, object],
    ) -> None:
        """Raise SteeringNotInstalled unless `neutral` changes nothing, and `strong` something in each layer alone."""
        model, where = self.info.model_class, f"{where}{self.measure.when}"
        unchanged = await self._run(neutral)  # alone, as `plain` was
        if unchanged != plain:
            raise SteeringNotInstalled(
                f"{model}: a neutral intervention on {where} changed the log-probabilities from {plain} to {unchanged}"
            )
        changed = await asyncio.gather(*(self._run({**strong, "layers": [layer]}) for layer in layers))
        if unmoved := [layer for layer, logprobs in zip(layers, changed, strict=True) if not _differ(plain, logprobs)]:
            raise SteeringNotInstalled(f"{model}: a strong intervention on {where} had no effect in layers {unmoved}")

    async def _run(self, intervention: Mapping[str, object]) -> Logprobs:
        fields = {"languages": [_LANGUAGE], "scope": self.measure.scope, **intervention}
        steering = Steering(intervention=Intervention.from_dict(fields), neurons=self.neurons.id)
        return await self.measure.run(steering)


def _differ(plain: Logprobs, steered: Logprobs) -> bool:
    """Return whether the likeliest tokens are others, or a log-probability has changed."""
    return any(
        token != other or abs(logprob - changed) >= _MIN_CHANGE
        for (token, logprob), (other, changed) in zip(plain, steered, strict=True)
    )


def _third_of_neurons(info: EngineInfo) -> NeuronSet:
    """Return a set in which one language has a third of the neurons of each layer, and a vector."""
    directions = random_directions(info.layers, info.hidden_size, key=_LANGUAGE)
    thirds = [(layer, index) for layer, width in enumerate(info.widths.by_layer) for index in range(0, width, 3)]
    return NeuronSet(
        id="ns_self_test",
        model=info.model,
        fingerprint=info.fingerprint,
        layers=info.layers,
        width=info.width,
        method="self_test",
        neurons={
            _LANGUAGE: np.array(thirds, dtype=np.int32),
            "rest": np.empty((0, 2), dtype=np.int32),
        },
        residual_mean=np.stack([directions, np.zeros_like(directions)]).astype(np.float32),
    )
