"""Tests at every start that an engine steers. Without the test, a sweep could run unsteered unnoticed.

A neutral intervention must leave the log-probabilities of a short text bit-identical, and a strong one in any single
layer must change them.
"""

from __future__ import annotations

import asyncio

import numpy as np

from ampsweep.domain.intervention import Intervention
from ampsweep.errors import SteeringNotInstalled
from engine.base import Engine, EngineInfo, Score, ScoreRequest, Steering
from engine.neurons.neuron_set import NeuronSet

_CONTEXT = "0 1 2 3 4 5"
_CONTINUATION = " 6 7 8 9"
_MIN_CHANGE = 1e-3  # of a log-probability
_STRONG = 10.0
_LANGUAGE = "test"


async def self_test(engine: Engine) -> None:
    """Test that interventions take effect in every layer, and that neutral ones change nothing.

    Args:
        engine: The engine; its neuron set for the test stays loaded.

    Raises:
        SteeringNotInstalled: The test failed.
    """
    neurons = _third_of_neurons(engine.info)
    engine.add_neurons(neurons)
    plain = await engine.score(_request(None))
    neutral = await engine.score(_request(_steering(neurons, factor=1.0, op="scale", layers="all")))
    if neutral.logprobs != plain.logprobs:
        raise SteeringNotInstalled(
            f"{engine.info.model_class}: a neutral intervention changed the log-probabilities from "
            f"{plain.logprobs} to {neutral.logprobs}"
        )
    strong = await asyncio.gather(
        *(
            engine.score(_request(_steering(neurons, factor=_STRONG, op="set", layers=[layer])))
            for layer in range(engine.info.layers)
        )
    )
    if unchanged := [layer for layer, score in enumerate(strong) if not _changed(plain, score)]:
        raise SteeringNotInstalled(
            f"{engine.info.model_class}: a strong intervention had no effect in layers {unchanged}"
        )


def _changed(plain: Score, steered: Score) -> bool:
    return bool(np.max(np.abs(np.subtract(plain.logprobs, steered.logprobs))) >= _MIN_CHANGE)


def _request(steering: Steering | None) -> ScoreRequest:
    return ScoreRequest(context=_CONTEXT, continuation=_CONTINUATION, steering=steering)


def _steering(neurons: NeuronSet, **intervention: object) -> Steering:
    return Steering(intervention=Intervention.from_dict({"languages": [_LANGUAGE], **intervention}), neurons=neurons.id)


def _third_of_neurons(info: EngineInfo) -> NeuronSet:
    """Return a set in which a third of the neurons of each layer belong to one language."""
    layers, indices = np.meshgrid(np.arange(info.layers), np.arange(0, info.width, 3), indexing="ij")
    return NeuronSet(
        id="ns_self_test",
        model=info.model,
        fingerprint=info.fingerprint,
        layers=info.layers,
        width=info.width,
        method="self_test",
        neurons={_LANGUAGE: np.stack([layers.ravel(), indices.ravel()], axis=1).astype(np.int32)},
    )
