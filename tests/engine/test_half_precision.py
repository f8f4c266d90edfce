"""In 16 bits, vLLM and the reference implementation differ only by rounding, with steering no more than without.

Both round in many places, but in different ones. So the tolerance is measured in the same run: the unsteered difference
of the two libraries. With steering, the root mean square of the difference over all scored tokens may be half as much
again, and the largest difference four times as large, because it is one of a few hundred and varies by a factor of two
from text to text. And vLLM must be no farther from the float32 reference implementation, by half, than the reference
implementation in the same dtype is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ampsweep.bundled import ATLAS_MODEL
from ampsweep.domain.generation.sampling import SamplingParams
from ampsweep.domain.intervention import Intervention
from ampsweep.errors import InvalidRequest
from benchmarks.comparisons.mixed_load import SETTINGS, random_neurons
from benchmarks.comparisons.overflow_load import STRONG, assert_no_trace
from benchmarks.models.families import Family
from engine.base import Engine, GenerateRequest, ScoreRequest, Steering
from engine.hf.engine import TransformersEngine
from engine.neurons.neuron_set import NeuronSet
from engine.vllm.engine import VllmEngine

pytestmark = pytest.mark.engine

CPU = replace(SETTINGS, backend="cpu", slots=8, max_num_batched_tokens=256, kv_cache_bytes=64 * 1024**2)
RMS_FACTOR, LARGEST_FACTOR = 1.5, 4.0
TEXTS = (
    "the thing in the end is that nothing stands and everything on the other hand is there again",
    "an answer to the question of the day",
    "in the beginning there was the sea and the wind and the rain",
    "что там на столе",
    "another day in the sand by the tree",
    "Quelle est la capitale de la France ?",
    "the capital of the country is the largest city in it",
    "0 1 2 3 4 5 6 7 8 9",
)
INTERVENTIONS: tuple[dict[str, Any], ...] = (
    {"languages": ["fr"], "op": "scale", "factor": 3.0},
    {"languages": ["fr"], "op": "scale", "factor": 0.0},
    {"languages": ["tr"], "op": "set", "factor": 1.0},
    {"languages": ["en", "fr"], "op": "add", "factor": 0.5},
    {"languages": ["tr"], "op": "set", "patch": "max"},
    {"languages": ["en"], "op": "set", "statistic": "p90"},
)


async def scored(engine: Engine) -> list[NDArray[np.float64]]:
    """Return the log-probabilities of all tokens, unsteered and under each intervention, and close the engine."""
    neurons = random_neurons(engine.info)
    engine.add_neurons(neurons)
    logprobs = []
    for raw in (None, *INTERVENTIONS):
        steering = None if raw is None else Steering(intervention=Intervention.from_dict(raw), neurons=neurons.id)
        requests = [ScoreRequest(context="", continuation=text, steering=steering) for text in TEXTS]
        scores = await asyncio.gather(*(engine.score(request) for request in requests))
        logprobs.append(np.concatenate([score.logprobs for score in scores]))
    if engine.info.dtype == "float16":
        await _overflow(engine, neurons)
    await engine.close()
    return logprobs


async def _overflow(engine: Engine, neurons: NeuronSet) -> None:
    """Check that float16, whose largest number is 65504, gives no NaN but an error that names the remedy."""
    steering = Steering(intervention=STRONG, neurons=neurons.id)
    with pytest.raises(InvalidRequest, match=r"too strong.*bfloat16"):
        await engine.score(ScoreRequest(context=TEXTS[0], continuation=TEXTS[1], steering=steering))
    for temperature in (0.0, 1.0):
        sampling = SamplingParams(max_tokens=3, temperature=temperature, ignore_eos=True)
        request = GenerateRequest(prompt=TEXTS[0], sampling=sampling, steering=steering)
        with pytest.raises(InvalidRequest, match=r"too strong.*bfloat16"):
            async for _ in engine.generate(request):
                pass
    await assert_no_trace(engine)


def rms(difference: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean(np.square(difference))))


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        *((name, "bfloat16") for name in ("llama", "gpt2", "atlas", "qwen3_5")),
        ("llama", "float16"),
    ],
)
def test_the_engines_differ_only_by_rounding(
    name: Family | str, dtype: str, model_folder: Callable[[str], Path]
) -> None:
    folder = ATLAS_MODEL if name == "atlas" else model_folder(name)
    settings = replace(CPU, kv_cache_bytes=1024**2) if dtype == "float16" else CPU

    async def check() -> tuple[list[NDArray[np.float64]], ...]:
        return (
            await scored(TransformersEngine(folder)),
            await scored(TransformersEngine(folder, dtype=dtype)),
            await scored(await VllmEngine.open(folder, dtype=dtype, settings=settings)),
        )

    exact, reference, ours = asyncio.run(check())
    unsteered = ours[0] - reference[0]
    assert rms(unsteered) > 0, "nothing was rounded"
    for index, raw in enumerate(INTERVENTIONS, start=1):
        assert rms(exact[index] - exact[0]) > 5 * RMS_FACTOR * rms(unsteered), f"{raw} has hardly any effect"
        difference = ours[index] - reference[index]
        assert rms(difference) <= RMS_FACTOR * rms(unsteered), raw
        assert np.abs(difference).max() <= LARGEST_FACTOR * np.abs(unsteered).max(), raw
        assert rms(ours[index] - exact[index]) <= RMS_FACTOR * rms(reference[index] - exact[index]), raw
