"""The proof, at every start, that an engine steers: otherwise a sweep would measure nothing and nobody would know.

A neutral intervention must leave the log-probabilities of a probe bit-identical, and a strong one must change them in
every single layer.
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
_LEAST_CHANGE = 1e-3
_STRONG = 10.0


async def self_test(engine: Engine) -> None:
    """Raise SteeringNotInstalled unless interventions reach every layer, and neutral ones change nothing."""
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
    if unmoved := [layer for layer, score in enumerate(strong) if not _changed(plain, score)]:
        raise SteeringNotInstalled(
            f"{engine.info.model_class}: a strong intervention changed nothing in layers {unmoved}"
        )


def _changed(plain: Score, steered: Score) -> bool:
    return bool(np.max(np.abs(np.subtract(plain.logprobs, steered.logprobs))) >= _LEAST_CHANGE)


def _request(steering: Steering | None) -> ScoreRequest:
    return ScoreRequest(context=_CONTEXT, continuation=_CONTINUATION, steering=steering)


def _steering(neurons: NeuronSet, **intervention: object) -> Steering:
    return Steering(intervention=Intervention.from_dict({"languages": ["probe"], **intervention}), neurons=neurons.id)


def _third_of_neurons(info: EngineInfo) -> NeuronSet:
    """Return a set in which one language owns a third of the neurons of each layer."""
    layers, indices = np.meshgrid(np.arange(info.layers), np.arange(0, info.width, 3), indexing="ij")
    return NeuronSet(
        id="ns_probe",
        model=info.model,
        fingerprint=info.fingerprint,
        layers=info.layers,
        width=info.width,
        method="probe",
        neurons={"probe": np.stack([layers.ravel(), indices.ravel()], axis=1).astype(np.int32)},
    )
