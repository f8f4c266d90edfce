"""vLLM gives the answers of the reference implementation: batches, ops, scopes, chunks, prefix cache, few slots."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from ampsweep.domain.generation.chunk import Chunk
from ampsweep.domain.generation.sampling import SamplingParams
from ampsweep.folders.corpus import Sentence
from benchmarks.models.families import FAMILIES
from engine.base import Capture, CaptureRequest, Engine, GenerateRequest, Score, ScoreRequest, Steering
from engine.capture.selection import NeuronSelection
from engine.identify.record_request import RecordRequest
from engine.vllm.settings import VllmSettings
from tests.engine.both_engines import Both, both_engines

pytestmark = pytest.mark.engine

SETTINGS = VllmSettings(
    slots=5,  # fewer than the interventions in flight: requests must wait
    max_num_seqs=16,
    max_num_batched_tokens=32,  # prompts are longer: chunked prefill
    block_size=32,
    kv_cache_bytes=64 * 1024**2,
    compile=False,
)
TOLERANCE = 1e-4
PROMPTS = (
    "the thing in the end is that nothing stands and everything on the other hand is there again",
    "an answer",
    "in the beginning there was the sea and the wind and the rain and then another day in the sand by the tree",
    "что там",
)


@pytest.fixture(scope="module", params=FAMILIES)
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    with both_engines(request.param, tmp_path_factory.mktemp(request.param), SETTINGS) as engines:
        yield engines


def interventions(both: Both) -> list[Steering | None]:
    """Return interventions over all ops, scopes, patches, layers, languages, controls and vectors, and none."""
    make = both.steering
    return [
        make(["fr"], "scale", 3.0),
        make(["tr"], "scale", 0.0, scope="prompt"),
        make(["fr"], "add", 1.5, scope="generation"),
        make(["en", "fr"], "set", 2.0),
        make(["fr"], "set", None, patch="max"),
        make(["en", "tr"], "set", 0.5, patch="median", scope="generation"),
        make(["tr"], "add", 2.0, patch="mean", layers=[1]),
        make(["fr"], "set", -1.0, layers=[0, 2]),
        make(["fr"], "scale", 3.0, selection="random"),
        make(["fr"], "scale", 2.0, non_target={"op": "scale", "factor": 0.0}),
        make(["en"], "set", 1.0, non_target={"op": "set", "factor": 0.25}, scope="prompt"),
        make(["en", "fr", "tr"], "scale", -1.0),
        make(["fr"], "add", 1.5, patch="difference", source={"language": "en", "op": "set", "factor": 0.0}),
        make({"tr": -1.0}, "add", 1.0, patch="difference", scope="generation"),
        make(["fr"], "add", 6.0, vector="diffmean"),
        make(["tr"], "add", -1.0, vector="diffmean_raw", layers=[0, 2], scope="prompt"),
        make({"en": 0.5, "fr": 2.0}, "add", 4.0, vector="diffmean", scope="generation"),
        make(["fr"], "add", 1.0, vector="diffmean_raw", selection="random", seed=3),
        make(["fr"], "scale", 3.0, scope="prompt", tokens={"start": -40, "end": -3}),  # over borders of chunks
        make(["en", "fr"], "set", 2.0, scope="generation", tokens={"start": 1, "end": 4}),
        make(["fr"], "add", 6.0, vector="diffmean", tokens={"positions": [0, 31, 32, 40], "decay": 0.9}),
        make(["tr"], "set", 2.0, statistic="max", tokens={"decay": 0.8}),
        None,
    ]


async def generate(engine: Engine, request: GenerateRequest) -> Chunk:
    """Collect a stream into one chunk."""
    chunks = [chunk async for chunk in engine.generate(request)]
    return Chunk(
        text="".join(chunk.text for chunk in chunks),
        token_ids=tuple(token for chunk in chunks for token in chunk.token_ids),
        token_texts=tuple(text for chunk in chunks for text in chunk.token_texts),
        text_offsets=tuple(offset for chunk in chunks for offset in chunk.text_offsets),
        logprobs=tuple(logprob for chunk in chunks for logprob in chunk.logprobs),
        top_logprobs=tuple(entry for chunk in chunks for entry in chunk.top_logprobs),
        prompt_tokens=chunks[-1].prompt_tokens,
        finish_reason=chunks[-1].finish_reason,
    )


async def answer(engine: Engine, request: GenerateRequest | ScoreRequest) -> Chunk | Score:
    return await (generate(engine, request) if isinstance(request, GenerateRequest) else engine.score(request))


async def answers(engine: Engine, requests: Sequence[GenerateRequest | ScoreRequest]) -> list[Chunk | Score]:
    return await asyncio.gather(*(answer(engine, request) for request in requests))


async def one_by_one(engine: Engine, requests: Sequence[GenerateRequest | ScoreRequest]) -> list[Chunk | Score]:
    return [await answer(engine, request) for request in requests]


def assert_equal(ours: Sequence[Chunk | Score], references: Sequence[Chunk | Score]) -> None:
    for mine, reference in zip(ours, references, strict=True):
        assert mine.token_ids == reference.token_ids
        np.testing.assert_allclose(mine.logprobs, reference.logprobs, rtol=0, atol=TOLERANCE)
        if isinstance(mine, Chunk) and isinstance(reference, Chunk):
            assert (mine.text, mine.finish_reason) == (reference.text, reference.finish_reason)


def test_a_mixed_batch_with_many_interventions(both: Both) -> None:
    requests: list[GenerateRequest | ScoreRequest] = []
    for index, steering in enumerate(interventions(both)):
        prompts = (PROMPTS[index % len(PROMPTS)], PROMPTS[(index + 1) % len(PROMPTS)])
        requests.append(GenerateRequest(prompt=prompts[0], sampling=SamplingParams(max_tokens=8), steering=steering))
        requests.append(ScoreRequest(context=prompts[1], continuation=" and then the rain", steering=steering))
        requests.append(ScoreRequest(context="", continuation=prompts[0], steering=steering))
    ours = both.run(answers(both.vllm, requests))
    assert_equal(ours, both.run(answers(both.reference, requests)))
    changed = {str(mine.logprobs) for mine in ours[2 :: 3 * len(PROMPTS)]}
    assert len(changed) > 1, "the interventions must change something"


def test_equal_prompts_share_no_prefix_under_different_vectors(both: Both) -> None:
    make = both.steering
    vectors = [
        make(["fr"], "add", 6.0, vector="diffmean"),
        make(["fr"], "add", 6.0, vector="diffmean_raw"),
        make(["fr"], "add", 3.0, vector="diffmean"),
        make(["fr"], "add", 6.0, vector="diffmean", layers=[2]),
        make(["fr"], "add", 6.0),
        None,
    ]
    requests = [
        ScoreRequest(context=PROMPTS[2], continuation=" in the rain", steering=steering) for steering in vectors * 2
    ]

    hits = both.vllm.stats().cached_tokens
    ours = both.run(one_by_one(both.vllm, requests))
    assert_equal(ours, both.run(one_by_one(both.reference, requests)))
    assert both.vllm.stats().cached_tokens > hits, "the prefix cache was never read"
    assert len({str(np.round(score.logprobs, 3)) for score in ours}) == len(vectors)


def test_the_same_prompt_steered_and_unsteered_in_any_order(both: Both) -> None:
    fr, prompt_only, first, tr = (
        both.steering(["fr"], "scale", 3.0),
        both.steering(["fr"], "scale", 3.0, scope="prompt"),
        both.steering(["fr"], "scale", 3.0, tokens={"end": 20}),
        both.steering(["tr"], "set", 2.0),
    )
    orders = [[fr, None, fr], [None, first, fr, first], [tr, fr, None, prompt_only, tr, None, fr, prompt_only]]
    requests = [
        GenerateRequest(prompt=prompt, sampling=SamplingParams(max_tokens=6), steering=steering)
        for order, prompt in zip(orders, (PROMPTS[2] + ending for ending in (" one", " two", " three")), strict=True)
        for steering in order
    ]

    hits = both.vllm.stats().cached_tokens
    assert_equal(both.run(one_by_one(both.vllm, requests)), both.run(one_by_one(both.reference, requests)))
    assert both.vllm.stats().cached_tokens > hits, "the prefix cache was never read"


@pytest.mark.parametrize(
    "which",
    [
        {"scope": "prompt"},
        {"scope": "generation"},
        {"scope": "prompt", "tokens": {"start": -9}},
        {"scope": "generation", "tokens": {"positions": [0, 3]}},
        {"scope": "generation", "tokens": {"decay": 0.6}},
    ],
)
def test_a_scope_shares_no_prefix_with_a_prompt_that_ends_elsewhere(both: Both, which: dict[str, Any]) -> None:
    """The continuation of the first request is part of the prompt of the second, which steers it differently."""
    steering = both.steering(["fr"], "set", 2.25, **which)
    start, rest = PROMPTS[2][:22], PROMPTS[2][22:]
    requests = [
        ScoreRequest(context=start, continuation=rest, steering=steering),
        ScoreRequest(context=PROMPTS[2], continuation=" the end", steering=steering),
    ]
    ours = [both.run(both.vllm.score(request)) for request in requests]
    assert_equal(ours, both.run(answers(both.reference, requests)))


def test_scoring_reads_the_prefix_cache_up_to_the_first_scored_token(both: Both) -> None:
    """Contexts have all lengths around block borders; each continuation is scored twice, then another."""
    steering = both.steering(["fr"], "set", 2.0, scope="prompt")
    contexts = [PROMPTS[2][:length] for length in range(58, 100, 3)]
    requests: list[GenerateRequest | ScoreRequest] = [
        ScoreRequest(context=context, continuation=ending, steering=chosen)
        for context in contexts
        for chosen in (None, steering)
        for ending in (" and the end", " and the end", " in there")
    ]

    hits = both.vllm.stats().cached_tokens
    ours = both.run(one_by_one(both.vllm, requests))
    assert_equal(ours, both.run(one_by_one(both.reference, requests)))
    assert both.vllm.stats().cached_tokens > hits, "the prefix cache was never read"
    for first, second in zip(ours[::3], ours[1::3], strict=True):
        np.testing.assert_allclose(first.logprobs, second.logprobs, rtol=0, atol=1e-5)


def test_slots_are_released_and_never_exceeded(both: Both) -> None:
    async def check() -> int:
        steerings = interventions(both)
        await answers(
            both.vllm,
            [ScoreRequest(context=PROMPTS[0], continuation=" end", steering=steering) for steering in steerings],
        )
        await both.vllm.score(ScoreRequest(context=PROMPTS[1], continuation=" end"))  # a step that sees who has gone
        return await both.vllm.slots_in_use()

    assert both.run(check()) == 0


def test_a_stream_that_is_closed_early_frees_its_slot(both: Both) -> None:
    async def check() -> int:
        steering = both.steering(["fr"], "scale", 1.25)
        stream = both.vllm.generate(
            GenerateRequest(prompt="the", sampling=SamplingParams(max_tokens=400, ignore_eos=True), steering=steering)
        )
        await anext(stream)
        assert await both.vllm.slots_in_use() == 1
        await stream.aclose()
        await both.vllm.score(ScoreRequest(context=PROMPTS[1], continuation=" end"))
        return await both.vllm.slots_in_use()

    assert both.run(check()) == 0


def test_a_recording_equals_the_reference(both: Both) -> None:
    sentences = [
        Sentence(language=language, text=f"{PROMPTS[number % 4]} {language} {number} " * (1 + number % 3))
        for language in ("en", "fr")
        for number in range(12)
    ]
    ours = both.run(both.vllm.record(sentences, RecordRequest(max_tokens=600, residual_counts=True)))
    reference = both.run(both.reference.record(sentences, RecordRequest(max_tokens=600, residual_counts=True)))
    assert ours.languages == reference.languages
    np.testing.assert_array_equal(ours.tokens, reference.tokens)
    np.testing.assert_array_equal(ours.sentences, reference.sentences)
    np.testing.assert_array_equal(ours.counts, reference.counts)
    np.testing.assert_array_equal(ours.positive, reference.positive)
    for kind in ("patch_max", "patch_median", "patch_mean"):
        np.testing.assert_allclose(getattr(ours, kind), getattr(reference, kind), rtol=0, atol=1e-5)
    np.testing.assert_allclose(ours.residual_mean, reference.residual_mean, rtol=0, atol=1e-4)
    assert ours.residual_counts is not None
    assert reference.residual_counts is not None
    np.testing.assert_array_equal(ours.residual_counts, reference.residual_counts)
    assert 0 < ours.residual_counts.sum() < ours.residual_counts.size * ours.tokens.max()


def test_captured_activations_equal_the_reference(both: Both) -> None:
    """Texts are longer than a step, read twice, and captured beside answers that are steered in other ways."""
    make, width = both.steering, both.reference.info.widths.of(0)
    neurons = NeuronSelection.of({0: np.array([1, 5, width - 1]), 2: np.arange(width)})
    steerings = [
        None,
        make(["fr"], "scale", 3.0),
        make(["en", "fr"], "set", 2.0, scope="generation"),
        make(["tr"], "set", 0.5, patch="median", scope="prompt"),
        make(["fr"], "add", 6.0, vector="diffmean"),
        make(["fr"], "add", 6.0, vector="diffmean", tokens={"positions": [1, 33, 40], "decay": 0.9}),
        make(["en", "fr"], "set", 2.0, scope="generation", tokens={"start": 1, "end": 34}),
        make(["en", "fr"], "set", 2.0, scope="prompt", tokens={"start": -2}),
    ]
    requests = [
        CaptureRequest(prompt=prompt, neurons=neurons, steering=steering, prompt_tokens=3)
        for steering in steerings
        for prompt in (PROMPTS[2], PROMPTS[1], PROMPTS[2])
    ]

    async def captures(engine: Engine) -> list[Capture]:
        beside = ScoreRequest(context=PROMPTS[0], continuation=" and the end", steering=steerings[1])
        captured, _ = await asyncio.gather(asyncio.gather(*map(engine.capture, requests)), engine.score(beside))
        return captured

    both.run(both.vllm.score(ScoreRequest(context=PROMPTS[2], continuation=" is in the prefix cache")))
    ours, references = both.run(captures(both.vllm)), both.run(captures(both.reference))
    assert len(ours[0].token_ids) > 32, "the text must be longer than a step"
    for mine, reference in zip(ours, references, strict=True):
        assert (mine.token_ids, mine.token_texts) == (reference.token_ids, reference.token_texts)
        for values, expected in zip(mine.activations, reference.activations, strict=True):
            np.testing.assert_allclose(values, expected, rtol=0, atol=TOLERANCE)
    for steered in ours[3::3]:
        assert np.abs(steered.activations[1] - ours[0].activations[1]).max() > 1e-2, "the edits below change the layer"


def test_a_cancelled_recording_frees_its_rows(both: Both) -> None:
    sentences = [Sentence(language="en", text=f"{PROMPTS[2]} {number}") for number in range(200)]

    async def check() -> None:
        for _ in range(2):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await both.vllm.record(sentences, RecordRequest(max_tokens=10_000))

    both.run(check())
    stats = both.run(both.vllm.record(sentences[:100], RecordRequest(max_tokens=100_000)))
    assert stats.sentences.tolist() == [100]


def test_a_seed_makes_sampling_reproducible(both: Both) -> None:
    request = GenerateRequest(
        prompt=PROMPTS[1],
        sampling=SamplingParams(max_tokens=8, temperature=1.0, seed=3),
        steering=both.steering(["fr"], "scale", 2.0),
    )
    first, second = both.run(answers(both.vllm, [request, request]))
    assert first.token_ids == second.token_ids
