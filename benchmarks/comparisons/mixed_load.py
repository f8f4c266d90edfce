"""A small mixed load of generation, scoring, recording and capture, for comparing the results of two engines.

It has more interventions than the engine has slots, prompts longer than a scheduler step, generations that together
exceed the KV cache, and sentences that are recorded at the same time. Results are plain lists, so that another process
can send them as JSON. The engine tests and `benchmarks.gpu_check` run it on a model of `benchmarks.models.families`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import zip_longest
from typing import Any
from unittest.mock import patch

import numpy as np

from ampsweep.domain.generation.chunk import joined_spans
from ampsweep.domain.generation.sampling import SamplingParams
from ampsweep.domain.intervention import Intervention
from ampsweep.folders.corpus import Sentence
from benchmarks.comparisons.checksum_identifier import OFTEN
from engine.base import CaptureRequest, Engine, EngineInfo, GenerateRequest, ScoreRequest, Steering
from engine.capture.selection import of_languages
from engine.identify.record_request import RecordRequest
from engine.identify.stats import ActivationStats
from engine.neurons.neuron_set import NeuronSet, PatchValues
from engine.neurons.numbering import selected
from engine.vllm.settings import VllmSettings

SETTINGS = VllmSettings(
    slots=3,
    max_model_len=128,
    max_num_seqs=8,
    max_num_batched_tokens=32,
    block_size=32,
    kv_cache_bytes=300_000,  # six blocks of the tiny Qwen: two for a prompt, three once it is answered
    compile=False,
    backend="cuda",
)
LANGUAGES = ("en", "fr", "tr")
PROMPT = "in the beginning there was the sea and the wind and the rain"
NEW_TOKENS = 20
_WITH_MEANS = 3
"""Sentences of a language whose means are recorded: few, so that workers add up the short ones that follow."""
INTERVENTIONS: tuple[dict[str, Any] | None, ...] = (
    {"languages": ["fr"], "op": "scale", "factor": 3.0},
    None,
    {
        "languages": ["tr"],
        "op": "set",
        "factor": 1.0,
        "scope": "generation",
        "tokens": {"start": 1, "end": 12, "decay": 0.9},
    },
    {"languages": ["en", "fr"], "op": "add", "factor": 1.5, "scope": "prompt"},
    {"languages": ["tr"], "op": "set", "patch": "max", "layers": [1]},
    {"languages": {"en": 1, "fr": 0.5}, "op": "set", "statistic": "p90", "factor": 1.5},
    {
        "languages": ["fr"],
        "op": "add",
        "patch": "difference",
        "factor": 1.5,
        "source": {"language": "en", "op": "set", "factor": 0.0},
    },
    {"languages": ["fr"], "op": "add", "vector": "diffmean", "factor": 8.0},
    {
        "languages": ["tr"],
        "op": "add",
        "vector": "diffmean_raw",
        "factor": -1.0,
        "layers": [1],
        "scope": "generation",
        "tokens": {"decay": 0.8},
    },
)
SWITCHED: tuple[dict[str, Any], ...] = (
    {"languages": ["fr"], "op": "set", "factor": 2.0, "when": OFTEN},
    {"languages": ["fr"], "op": "add", "vector": "diffmean", "factor": 8.0, "when": OFTEN},
)
"""Interventions that depend on the text of an answer, in which nothing can be scored."""


def random_neurons(info: EngineInfo) -> NeuronSet:
    """Return a set in which each language has a random quarter of each layer; languages overlap.

    Patch values and mean residuals are random too.
    """
    rng = np.random.default_rng(7)
    shape = (len(LANGUAGES), *info.widths.shape)
    return NeuronSet(
        id="ns_parity",
        model=info.model,
        fingerprint=info.fingerprint,
        layers=info.layers,
        width=info.width,
        method="test",
        neurons={code: selected(rng.random(shape[1:]) < 0.25, info.widths) for code in LANGUAGES},
        patch=PatchValues(**{kind: rng.normal(size=shape).astype(np.float32) for kind in ("max", "median", "mean")}),
        residual_mean=rng.normal(size=(len(LANGUAGES), info.layers, info.hidden_size)).astype(np.float32),
    )


async def run_load(engine: Engine, *, new_tokens: int = NEW_TOKENS, captures: bool = False) -> dict[str, Any]:
    """Run all requests at once and return their results as lists.

    Args:
        engine: The engine, opened with a `ChecksumIdentifier`.
        new_tokens: Tokens of each answer.
        captures: Whether activations are captured too, which an engine that replays CUDA graphs rejects.

    Returns:
        `generated` token ids and `scored` natural log-probabilities, one list for each intervention;
        `switched`, the token ids and the steered spans of answers whose text switches steering; `counts` of positive
        activations and `means` of activations, [languages, layers, neurons], or [languages, neurons] where
        layers differ in width; mean `residuals`, [languages, layers, H]; `captured` activations of the neurons of a
        language, [tokens, neurons] under the first two interventions, None without `captures`.
    """
    neurons = random_neurons(engine.info)
    engine.add_neurons(neurons)
    steerings = [
        Steering(intervention=Intervention.from_dict(raw), neurons=neurons.id) if raw is not None else None
        for raw in INTERVENTIONS
    ]
    switched = [Steering(intervention=Intervention.from_dict(raw), neurons=neurons.id) for raw in SWITCHED]
    sampling = SamplingParams(max_tokens=new_tokens, ignore_eos=True)
    sentences = [
        Sentence(
            language=language, text=f"{language} {number}" if number >= _WITH_MEANS else f"{PROMPT} {language} {number}"
        )
        for language in "ab"
        for number in range(2 * _WITH_MEANS)
    ]

    async def answer(number: int, steering: Steering | None) -> tuple[list[int], list[list[int]]]:
        request = GenerateRequest(prompt=f"{PROMPT} {number}", sampling=sampling, steering=steering)
        chunks = [chunk async for chunk in engine.generate(request)]
        spans = joined_spans(chunk.steered_spans for chunk in chunks) or []
        return [token for chunk in chunks for token in chunk.token_ids], [list(span) for span in spans]

    async def generate(number: int, steering: Steering | None) -> list[int]:
        return (await answer(number, steering))[0]

    async def score(number: int, steering: Steering | None) -> list[float]:
        request = ScoreRequest(context=f"{PROMPT} and {number}", continuation=" the rain", steering=steering)
        return list((await engine.score(request)).logprobs)

    async def record() -> ActivationStats:
        with patch("engine.identify.recorder.PATCH_SENTENCES", _WITH_MEANS):
            return await engine.record(sentences, RecordRequest(max_tokens=10_000))

    async def capture() -> list[list[list[float]]] | None:
        if not captures:
            return None
        chosen = of_languages(LANGUAGES[:1], neurons, param="neurons")
        requests = [
            CaptureRequest(prompt=f"{PROMPT} {number}", neurons=chosen, steering=steering)
            for number, steering in enumerate(steerings[:2])
        ]
        captured = await asyncio.gather(*map(engine.capture, requests))
        return [np.concatenate(each.activations, axis=1).tolist() for each in captured]

    capturing = asyncio.create_task(capture())
    recording = asyncio.create_task(record())
    answers = asyncio.gather(*(answer(number, steering) for number, steering in enumerate(switched)))
    results = await asyncio.gather(
        *(generate(number, steering) for number, steering in enumerate(steerings)),
        *(score(number, steering) for number, steering in enumerate(steerings)),
    )
    stats = await recording
    return {
        "generated": results[: len(steerings)],
        "scored": results[len(steerings) :],
        "switched": [list(each) for each in await answers],
        "counts": stats.counts.tolist(),
        "means": stats.patch_mean.tolist(),
        "residuals": stats.residual_mean.tolist(),
        "captured": await capturing,
    }


_TOLERANCES = {"scored": 1e-4, "counts": 0.0, "means": 1e-5, "residuals": 1e-4, "captured": 1e-4}
"""How far numbers may be from those of the reference implementation."""


def assert_same(results: dict[str, Any], expected: dict[str, Any]) -> None:
    """Assert that an engine's results are those of the reference implementation.

    Token ids and counts must be equal, log-probabilities, mean residuals and captured activations equal to 1e-4, mean
    activations to 1e-5. The error says of all results how they differ, so that one run tells what is wrong.
    """
    assert len({str(tokens) for tokens in expected["generated"]}) > 1, "interventions change nothing"
    if differences := [*_other_answers(results, expected), *_other_numbers(results, expected)]:
        raise AssertionError("; ".join(differences))


def _other_answers(results: dict[str, Any], expected: dict[str, Any]) -> Iterator[str]:
    """Say of each answer with other tokens, or other steered spans, where they begin to differ."""
    for number, answers in enumerate(zip(results["generated"], expected["generated"], strict=True)):
        if answers[0] != answers[1]:
            yield f"generated {number}: {_first_difference(*answers)}"
    for number, (actual, reference) in enumerate(zip(results["switched"], expected["switched"], strict=True)):
        if actual[0] != reference[0]:
            yield f"switched {number}: {_first_difference(actual[0], reference[0])}"
        if actual[1] != reference[1]:
            yield f"switched {number}: steered spans {actual[1]}, not {reference[1]}"


def _first_difference(actual: list[int], expected: list[int]) -> str:
    pairs = enumerate(zip_longest(actual, expected))
    return next(f"token {place} is {one}, not {other}" for place, (one, other) in pairs if one != other)


def _other_numbers(results: dict[str, Any], expected: dict[str, Any]) -> Iterator[str]:
    """Say of each result with other numbers how many there are, and how far the farthest is off."""
    for name, tolerance in _TOLERANCES.items():
        if results[name] is None:
            continue
        for number, (actual, reference) in enumerate(zip(results[name], expected[name], strict=True)):
            values, wanted = np.array(actual, dtype=np.float64), np.array(reference, dtype=np.float64)
            assert values.shape == wanted.shape, f"{name} {number}"
            off = np.where(np.isnan(values) & np.isnan(wanted), 0.0, np.abs(values - wanted))
            if wrong := int((~(off <= tolerance)).sum()):
                yield f"{name} {number}: {wrong} of {off.size} numbers, by up to {off.max():.2g}"
