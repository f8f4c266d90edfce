"""Tests at every start that an engine steers. Without the test, a sweep could run unsteered unnoticed.

A neutral intervention must leave the log-probabilities of a short text bit-identical, and a strong one in any single
layer must change them. Both are tried on neurons and on the residual stream.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import numpy as np

from ampsweep.domain.intervention import Intervention
from ampsweep.errors import SteeringNotInstalled
from engine.base import Engine, EngineInfo, Score, ScoreRequest, Steering
from engine.neurons.neuron_set import NeuronSet
from engine.steering.vectors import random_directions

_CONTEXT = "0 1 2 3 4 5"
_CONTINUATION = " 6 7 8 9"
_MIN_CHANGE = 1e-3  # of a log-probability
_STRONG = 10.0
_LONG = 1000.0  # of a vector; residuals of some models are as long, and float16 still holds the sum
_LANGUAGE = "test"


async def self_test(engine: Engine) -> NeuronSet:
    """Test that interventions take effect in every layer, and that neutral ones change nothing.

    Args:
        engine: The engine.

    Returns:
        The neuron set of the test, which stays loaded.

    Raises:
        SteeringNotInstalled: The test failed.
    """
    neurons = _third_of_neurons(engine.info)
    engine.add_neurons(neurons)
    plain = await engine.score(_request(None))
    for where, neutral, strong in (
        ("neurons", {"op": "scale", "factor": 1.0}, {"op": "set", "factor": _STRONG}),
        (
            "the residual stream",
            {"op": "add", "factor": 0.0, "vector": "diffmean"},
            {"op": "add", "factor": _LONG, "vector": "diffmean"},
        ),
    ):
        await _check(engine, neurons, plain, where=where, neutral=neutral, strong=strong)
    return neurons


async def _check(
    engine: Engine,
    neurons: NeuronSet,
    plain: Score,
    *,
    where: str,
    neutral: Mapping[str, object],
    strong: Mapping[str, object],
) -> None:
    """Raise SteeringNotInstalled unless `neutral` changes nothing, and `strong` something in each layer alone."""
    unchanged = await engine.score(_request(_steering(neurons, **neutral)))  # alone, as `plain` was
    if unchanged.logprobs != plain.logprobs:
        raise SteeringNotInstalled(
            f"{engine.info.model_class}: a neutral intervention on {where} changed the log-probabilities from "
            f"{plain.logprobs} to {unchanged.logprobs}"
        )
    changed = await asyncio.gather(
        *(engine.score(_request(_steering(neurons, **strong, layers=[layer]))) for layer in range(engine.info.layers))
    )
    if unmoved := [layer for layer, score in enumerate(changed) if not _changed(plain, score)]:
        raise SteeringNotInstalled(
            f"{engine.info.model_class}: a strong intervention on {where} had no effect in layers {unmoved}"
        )


def _changed(plain: Score, steered: Score) -> bool:
    return bool(np.max(np.abs(np.subtract(plain.logprobs, steered.logprobs))) >= _MIN_CHANGE)


def _request(steering: Steering | None) -> ScoreRequest:
    return ScoreRequest(context=_CONTEXT, continuation=_CONTINUATION, steering=steering)


def _steering(neurons: NeuronSet, **intervention: object) -> Steering:
    return Steering(intervention=Intervention.from_dict({"languages": [_LANGUAGE], **intervention}), neurons=neurons.id)


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
