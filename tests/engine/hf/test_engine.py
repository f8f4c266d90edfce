from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ampsweep.domain.generation.chunk import Chunk
from ampsweep.domain.generation.sampling import SamplingParams
from ampsweep.domain.intervention import Intervention
from ampsweep.errors import EngineFailed, InvalidRequest, UnknownName
from ampsweep.folders.corpus import Sentence
from benchmarks.models.families import MAX_MODEL_LEN, Family
from engine.base import CaptureRequest, GenerateRequest, Score, ScoreRequest, Steering
from engine.capture.selection import NeuronSelection
from engine.hf.engine import TransformersEngine
from engine.identify.record_request import RecordRequest
from tests.engine.hf.calls import INTERVENTIONS, VECTORS, generate, neurons_of, score_text, steering


def test_a_set_without_mean_residuals_has_no_vectors(qwen: TransformersEngine) -> None:
    qwen.add_neurons(replace(neurons_of("qwen2"), id="ns_old", residual_mean=None))
    intervention = Intervention.from_dict(VECTORS[0])
    request = ScoreRequest(
        context="x", continuation="y", steering=Steering(intervention=intervention, neurons="ns_old")
    )
    with pytest.raises(InvalidRequest, match=r"ns_old has no residual vectors.*identify it again") as caught:
        asyncio.run(qwen.score(request))
    assert caught.value.param == "intervention.vector"


def test_a_scope_leaves_other_tokens_unsteered(qwen: TransformersEngine) -> None:
    raw: dict[str, Any] = {"languages": ["fr"], "op": "scale", "factor": 9}
    plain = score_text(qwen, "The end is", " in the north").logprobs
    generation = score_text(qwen, "The end is", " in the north", {**raw, "scope": "generation"}).logprobs
    prompt = score_text(qwen, "The end is", " in the north", {**raw, "scope": "prompt"}).logprobs
    everywhere = score_text(qwen, "The end is", " in the north", raw).logprobs
    assert generation[0] == plain[0]  # predicted from the prompt's last token, which is not steered
    assert generation[1] != plain[1]
    assert prompt[0] == everywhere[0]
    assert prompt[1] != everywhere[1]


def test_a_neutral_intervention_changes_no_bit(qwen: TransformersEngine) -> None:
    for raw in (
        {"op": "scale", "factor": 1, "languages": ["fr", "en"]},
        {"op": "add", "factor": 0, "languages": ["fr", "en"]},
        {"op": "add", "factor": 0, "languages": ["fr"], "vector": "diffmean"},
    ):
        steered = score_text(qwen, "The end is", " in the north", raw)
        assert steered == score_text(qwen, "The end is", " in the north")


def test_a_prompt_that_is_too_long_is_rejected(qwen: TransformersEngine) -> None:
    with pytest.raises(InvalidRequest, match="512 tokens, but this engine accepts at most 511") as caught:
        generate(qwen, "x" * MAX_MODEL_LEN)
    assert caught.value.param == "prompt"
    assert len(score_text(qwen, "x", "y" * (MAX_MODEL_LEN - 2)).logprobs) == MAX_MODEL_LEN - 2
    with pytest.raises(InvalidRequest) as caught:
        score_text(qwen, "x", "y" * (MAX_MODEL_LEN - 1))
    assert caught.value.param == "context"


def test_an_unknown_neuron_set_or_language_is_rejected_with_the_known_ones(qwen: TransformersEngine) -> None:
    intervention = Intervention.from_dict({"languages": ["fr"], "op": "scale", "factor": 2})
    request = ScoreRequest(context="x", continuation="y", steering=Steering(intervention=intervention, neurons="ns_no"))
    with pytest.raises(UnknownName, match="ns_test"):
        asyncio.run(qwen.score(request))
    with pytest.raises(UnknownName, match="en, fr"):
        generate(qwen, "x", {"languages": ["de"], "op": "scale", "factor": 2})


def test_concurrent_requests_do_not_affect_each_other(qwen: TransformersEngine) -> None:
    async def together() -> list[Score]:
        requests = [
            ScoreRequest(context="The end is", continuation=" in the north", steering=steering(raw))
            for raw in [None, *INTERVENTIONS, None]
        ]
        return await asyncio.gather(*map(qwen.score, requests))

    scores = asyncio.run(together())
    sequential = [score_text(qwen, "The end is", " in the north", raw) for raw in [None, *INTERVENTIONS, None]]
    assert scores == sequential
    assert len({score.logprobs for score in scores}) == len(INTERVENTIONS) + 1


def test_requests_in_flight_fail_when_the_engine_is_closed(model_folder: Callable[[Family], Path]) -> None:
    engine = TransformersEngine(model_folder("llama"))
    request = ScoreRequest(context="The end is", continuation=" in the north")

    async def answer() -> list[Chunk]:
        sampling = SamplingParams(max_tokens=40, ignore_eos=True)
        return [chunk async for chunk in engine.generate(GenerateRequest(prompt="The end", sampling=sampling))]

    async def close_meanwhile() -> list[object]:
        cancelled = asyncio.create_task(engine.score(request))
        answering = asyncio.create_task(answer())
        scoring = [asyncio.create_task(engine.score(request)) for _ in range(8)]
        await asyncio.sleep(0)  # all have begun
        closing = asyncio.create_task(engine.close())
        cancelled.cancel()
        await closing
        results = await asyncio.gather(answering, *scoring, return_exceptions=True)
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        with pytest.raises(EngineFailed, match="closed"):
            await engine.score(request)
        return list(results)

    answered, *scored = asyncio.run(close_meanwhile())
    assert isinstance(answered, EngineFailed)
    assert isinstance(scored[-1], EngineFailed)
    assert all(isinstance(score, Score | EngineFailed) for score in scored)


def test_a_recording_in_progress_fails_when_the_engine_is_closed(model_folder: Callable[[Family], Path]) -> None:
    engine = TransformersEngine(model_folder("llama"))
    begun = threading.Event()

    def endless() -> Iterator[Sentence]:
        while True:
            yield Sentence(language="en", text="The end.")
            begun.set()

    async def close_meanwhile() -> None:
        recording = asyncio.create_task(engine.record(endless(), RecordRequest(max_tokens=1000)))
        await asyncio.to_thread(begun.wait)
        await engine.close()
        with pytest.raises(EngineFailed, match="closed"):
            await recording

    asyncio.run(close_meanwhile())


def test_every_call_to_a_closed_engine_fails_in_the_same_way(model_folder: Callable[[Family], Path]) -> None:
    engine = TransformersEngine(model_folder("qwen2"))
    neurons = NeuronSelection.of({0: np.arange(2)})
    sentences = [Sentence(language="en", text="The end.")]
    calls: list[Callable[[], object]] = [
        lambda: generate(engine, "The end"),
        lambda: score_text(engine, "The end is", " in the north"),
        lambda: asyncio.run(engine.record(sentences, RecordRequest(max_tokens=9))),
        lambda: asyncio.run(engine.capture(CaptureRequest(prompt="The end", neurons=neurons))),
    ]
    asyncio.run(engine.close())
    before = engine.stats()
    for call in calls:
        with pytest.raises(EngineFailed, match="the engine was closed"):
            call()
    engine.add_neurons(neurons_of("qwen2"))
    engine.drop_neurons(neurons_of("qwen2").id)
    asyncio.run(engine.close())
    assert asyncio.run(engine.ended()) == "the engine was closed"
    assert engine.stats() == before


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_the_dtype_can_be_chosen(model_folder: Callable[[Family], Path], dtype: str) -> None:
    engine = TransformersEngine(model_folder("qwen2"), dtype=dtype, name="tiny", max_model_len=64)
    engine.add_neurons(neurons_of("qwen2"))
    assert (engine.info.dtype, engine.info.model, engine.info.max_model_len) == (dtype, "tiny", 64)
    score = score_text(engine, "The end is", " in the north", INTERVENTIONS[0])
    assert all(value < 0 for value in score.logprobs)
    asyncio.run(engine.close())


def test_an_unknown_dtype_is_refused(model_folder: Callable[[Family], Path]) -> None:
    with pytest.raises(InvalidRequest, match="float32, bfloat16, float16") as caught:
        TransformersEngine(model_folder("qwen2"), dtype="int8")
    assert caught.value.param == "dtype"
