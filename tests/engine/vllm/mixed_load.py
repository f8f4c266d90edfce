"""A small load of everything an engine does at once, and its answers as plain values that can be sent and compared.

There are more interventions than slots, prompts longer than a step, generations that outgrow the key-value cache
together, and sentences recorded beside them.
"""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np

from ampsweep.domain.intervention import Intervention
from ampsweep.domain.sampling import SamplingParams
from ampsweep.folders.corpus import Sentence
from engine.base import Engine, GenerateRequest, ScoreRequest, Steering
from engine.vllm.launch import VllmSettings
from tests.engine.both_engines import random_neurons

SETTINGS = VllmSettings(
    slots=3,
    max_model_len=128,
    max_num_seqs=8,
    max_num_batched_tokens=32,
    block_size=32,
    kv_cache_bytes=400_000,  # eight blocks of the tiny Qwen: two sequences of full length
    compile=False,
    backend="cuda",
)
PROMPT = "in the beginning there was the sea and the wind"
NEW_TOKENS = 48
INTERVENTIONS: tuple[dict[str, Any] | None, ...] = (
    {"languages": ["fr"], "op": "scale", "factor": 3.0},
    None,
    {"languages": ["tr"], "op": "set", "factor": 1.0, "scope": "generation"},
    {"languages": ["en", "fr"], "op": "add", "factor": 1.5, "scope": "prompt"},
    {"languages": ["tr"], "op": "set", "patch": "max", "layers": [1]},
    {"languages": {"en": 1, "fr": 0.5}, "op": "set", "statistic": "p90", "factor": 1.5},
)


async def run_load(engine: Engine) -> dict[str, Any]:
    """Return generated token ids, log-probabilities and recorded activations, all as lists."""
    neurons = random_neurons(engine.info)
    engine.add_neurons(neurons)
    steerings = [
        Steering(intervention=Intervention.from_dict(raw), neurons=neurons.id) if raw is not None else None
        for raw in INTERVENTIONS
    ]
    sampling = SamplingParams(max_tokens=NEW_TOKENS, ignore_eos=True)
    sentences = [Sentence(language=language, text=f"{PROMPT} {language} {at}") for language in "ab" for at in range(3)]

    async def generate(at: int, steering: Steering | None) -> list[int]:
        request = GenerateRequest(prompt=f"{PROMPT} {at}", sampling=sampling, steering=steering)
        return [token async for chunk in engine.generate(request) for token in chunk.token_ids]

    async def score(at: int, steering: Steering | None) -> list[float]:
        request = ScoreRequest(context=f"{PROMPT} and {at}", continuation=" the rain", steering=steering)
        return list((await engine.score(request)).logprobs)

    record = asyncio.create_task(engine.record(sentences, max_tokens=10_000))
    found = await asyncio.gather(
        *(generate(at, steering) for at, steering in enumerate(steerings)),
        *(score(at, steering) for at, steering in enumerate(steerings)),
    )
    stats = await record
    return {
        "generated": found[: len(steerings)],
        "scored": found[len(steerings) :],
        "counts": stats.counts.tolist(),
        "means": stats.patch_mean.tolist(),
    }


def assert_same(ours: dict[str, Any], expected: dict[str, Any]) -> None:
    """Hold an engine's answers to the reference implementation's."""
    assert ours["generated"] == expected["generated"]
    assert len({str(tokens) for tokens in ours["generated"]}) > 1
    for mine, reference in zip(ours["scored"], expected["scored"], strict=True):
        np.testing.assert_allclose(mine, reference, rtol=0, atol=1e-4)
    np.testing.assert_array_equal(ours["counts"], expected["counts"])
    np.testing.assert_allclose(ours["means"], expected["means"], rtol=0, atol=1e-5)
