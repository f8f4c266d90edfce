"""Answers stay correct when resources are short: requests are preempted, wait for the batch or a slot, or are aborted.

The cache holds about eight blocks and a request needs up to five, so that concurrent requests preempt each other.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from ampsweep.domain.generation.chunk import Chunk, joined_spans
from ampsweep.domain.generation.prompt import TokenIds
from ampsweep.domain.neurons.neuron_set import NeuronsRef
from ampsweep.errors import UnknownName
from ampsweep.folders.corpus import Sentence
from benchmarks.comparisons.checksum_identifier import OFTEN
from engine.base import Engine, GenerateRequest, Priority, ScoreRequest, Steering
from engine.identify.record_request import RecordRequest
from engine.steering.thinking import ThinkingMarkers
from jobs.neuron_sets.registry import NeuronSets
from tests.engine.both_engines import Both, both_engines
from tests.engine.replay import assert_replayed
from tests.engine.test_base import increase, stats_of_work
from tests.engine.vllm.pressure import (
    GREEDY,
    SETTINGS,
    TEXT,
    answers,
    assert_same,
    collect,
    free_blocks,
    generate,
    growing,
    preempted,
    scheduler,
    scores,
    steerings,
)
from worker.neuron_set_cache import NeuronSetCache

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    with both_engines("llama", tmp_path_factory.mktemp("llama"), SETTINGS) as engines:
        yield engines


@pytest.fixture(autouse=True)
def all_is_given_back(both: Both) -> Iterator[None]:
    """Check after each test that no slot is held and that every block of the cache is free again."""
    before = both.run(free_blocks(both))
    yield
    both.run(both.vllm.score(ScoreRequest(context="the", continuation=" end")))  # a step that sees who has gone
    assert both.run(both.vllm.slots_in_use()) == 0
    assert both.run(free_blocks(both)) == before


def test_preempted_answers_equal_undisturbed_ones(both: Both) -> None:
    """More requests than fit the batch, more interventions than slots, more tokens than the cache holds."""
    requests = [
        GenerateRequest(prompt=TEXT[:60] + ending, sampling=GREEDY, steering=steering)
        for steering in steerings(both)
        for ending in ("", " and")
    ]
    with preempted(both) as counts:
        ours = both.run(answers(both.vllm, requests))
    assert counts["steer"] >= 3, "no request was preempted, so nothing was tested"
    assert_same(ours, both.run(answers(both.reference, requests)))


def test_a_preempted_answer_continues_its_random_stream(both: Both) -> None:
    drawn = replace(GREEDY, n=4, temperature=1.0, seed=11)
    steering = both.steering(["fr"], "set", 2.0, scope="generation")
    with preempted(both) as counts:
        (together,) = both.run(
            answers(both.vllm, [GenerateRequest(prompt=TEXT[:60], sampling=drawn, steering=steering)])
        )
    assert counts["steer"] >= 1, "no request was preempted, so nothing was tested"
    for index in range(4):
        sampling = replace(drawn, n=1, seed=11 + index)
        (undisturbed,) = both.run(
            answers(both.vllm, [GenerateRequest(prompt=TEXT[:60], sampling=sampling, steering=steering)])
        )
        assert undisturbed[0][0] == together[index][0]


def test_a_preempted_answer_is_switched_as_the_reference_is(both: Both) -> None:
    """The text decides which tokens are steered; no other request reads their blocks, and the prompt's are shared."""
    drifting, always = both.steering(["fr"], "set", 2.0, when=OFTEN), both.steering(["fr"], "set", 2.0)
    requests = [
        GenerateRequest(prompt=TEXT[:60] + ending, sampling=GREEDY, steering=drifting)
        for ending in ("", " and", " the", " sea", " of", " in")
    ]

    async def all_at_once(engine: Engine) -> list[list[Chunk]]:
        return await asyncio.gather(*(collect(engine, request) for request in requests))

    with preempted(both) as counts:
        ours = both.run(all_at_once(both.vllm))
    assert counts["steer"] >= 1, "no request was preempted, so nothing was tested"
    for request, chunks, theirs in zip(requests, ours, both.run(all_at_once(both.reference)), strict=True):
        assert isinstance(request.prompt, str)
        spans, expected = (joined_spans(chunk.steered_spans for chunk in each) for each in (chunks, theirs))
        assert spans == expected
        assert_replayed(both.reference, always, request.prompt, chunks)
    cached = both.vllm.stats().cached_tokens
    again = both.run(collect(both.vllm, requests[0]))
    assert [chunk.steered_spans for chunk in again] == [chunk.steered_spans for chunk in ours[0]]
    assert both.vllm.stats().cached_tokens > cached, "the prompt was not shared"
    prompt = both.vllm.encoder.tokens(TEXT[:60])
    longer = TokenIds((*prompt, *(token for chunk in again[:60] for token in chunk.token_ids)))
    plain = [GenerateRequest(prompt=longer, sampling=replace(GREEDY, max_tokens=4))]
    assert_same(both.run(answers(both.vllm, plain)), both.run(answers(both.reference, plain)))


@pytest.mark.parametrize("part", ["thinking", "answer"])
def test_a_part_of_a_preempted_answer_is_steered(both: Both, part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two tokens that the model generates stand for the markers."""
    plain = GenerateRequest(prompt=TEXT[:60], sampling=GREEDY)
    ids = [token for chunk in both.run(collect(both.reference, plain)) for token in chunk.token_ids]
    markers = ThinkingMarkers(start=ids[2], end=next(token for token in ids[6:] if token != ids[2]))
    monkeypatch.setattr(both.vllm, "_thinking", markers)
    monkeypatch.setattr(both.reference._model, "thinking", markers)
    steering, always = both.steering(["fr"], "set", 1.25, part=part), both.steering(["fr"], "set", 1.25)
    prompts = [TEXT[:60] + ending for ending in ("", " and", " the", " sea", " of", " in")]
    requests = [GenerateRequest(prompt=prompt, sampling=GREEDY, steering=steering) for prompt in prompts]

    async def all_at_once(engine: Engine) -> list[list[Chunk]]:
        return await asyncio.gather(*(collect(engine, request) for request in requests))

    ours, theirs = both.run(all_at_once(both.vllm)), both.run(all_at_once(both.reference))
    spans, expected = (
        [joined_spans(chunk.steered_spans for chunk in each) for each in engine] for engine in (ours, theirs)
    )
    assert spans == expected
    for prompt, chunks, steered in zip(prompts, ours, spans, strict=True):
        thinking, expected_tokens = False, set[int]()
        before = both.vllm.encoder.tokens(prompt)
        for index, token in enumerate([*before, *(token for chunk in chunks for token in chunk.token_ids)]):
            if index >= len(before) and thinking == (part == "thinking"):
                expected_tokens.add(index - len(before))
            if token in (markers.start, markers.end):
                thinking = token == markers.start
        assert expected_tokens == {token for start, end in steered or () for token in range(start, end)}
        assert_replayed(both.reference, always, prompt, chunks, switches=0)
    assert any(steered not in ([], [(0, 70)]) for steered in spans), "no answer is switched"


def test_a_preempted_score_equals_an_undisturbed_one(both: Both) -> None:
    generated = growing(both)
    scored = [
        ScoreRequest(
            context=f"{number} {TEXT}", continuation=f" {TEXT[:60]}", steering=steering, priority=Priority.BATCH
        )
        for number, steering in enumerate(steerings(both))
    ]

    async def all_at_once() -> Any:
        return await asyncio.gather(answers(both.vllm, generated), scores(both.vllm, scored))

    with preempted(both) as counts:
        answered, scored_together = both.run(all_at_once())
    assert counts["score"] >= 1, "no request was preempted, so nothing was tested"
    assert_same(answered, both.run(answers(both.reference, generated)))
    for mine, reference in zip(scored_together, both.run(scores(both.reference, scored)), strict=True):
        np.testing.assert_allclose(mine.logprobs, reference.logprobs, rtol=0, atol=1e-4)


def test_a_preempted_recording_counts_every_token_once(both: Both) -> None:
    generated = growing(both)
    sentences = [
        Sentence(language=code, text=f"{code} {number} {TEXT} {TEXT[:60]}")
        for code in ("en", "fr")
        for number in range(8)
    ]

    async def all_at_once() -> Any:
        return await asyncio.gather(
            answers(both.vllm, generated), both.vllm.record(sentences, RecordRequest(max_tokens=10_000))
        )

    with preempted(both) as counts:
        answered, stats = both.run(all_at_once())
    assert counts["record"] >= 1, "no request was preempted, so nothing was tested"
    assert_same(answered, both.run(answers(both.reference, generated)))
    reference = both.run(both.reference.record(sentences, RecordRequest(max_tokens=10_000)))
    np.testing.assert_array_equal(stats.counts, reference.counts)
    np.testing.assert_allclose(stats.patch_mean, reference.patch_mean, rtol=0, atol=1e-5)


def test_cancelled_answers_do_not_affect_others(both: Both) -> None:
    """All n answers of a request are aborted together, in any state, and free their slot and blocks."""
    lasting = [
        GenerateRequest(prompt=TEXT[:60], sampling=GREEDY, steering=steering) for steering in steerings(both)[:4]
    ]

    async def give_up(steering: Steering | None, after: int) -> None:
        request = GenerateRequest(prompt=TEXT[:40], sampling=replace(GREEDY, n=3), steering=steering)
        async with aclosing(both.vllm.generate(request)) as chunks:
            for _ in range(after):
                await anext(chunks)

    async def all_at_once() -> Any:
        leaving = [give_up(steering, after) for after, steering in enumerate(steerings(both), start=1)]
        return (await asyncio.gather(answers(both.vllm, lasting), *leaving))[0]

    assert_same(both.run(all_at_once()), both.run(answers(both.reference, lasting)))


def test_interactive_requests_do_not_wait_for_a_batch(both: Both) -> None:
    """They overtake requests that wait for a slot and those that wait for a place in the batch."""
    finished: list[str] = []

    async def one(name: str, priority: Priority, steering: Steering | None) -> None:
        request = GenerateRequest(
            prompt=TEXT[:20], sampling=replace(GREEDY, max_tokens=20), steering=steering, priority=priority
        )
        await generate(both.vllm, request)
        finished.append(name)

    async def check() -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(12):
                steering = both.steering(["fr"], "set", float(number + 1))
                group.create_task(one(f"batch {number}", Priority.BATCH, steering))
            await asyncio.sleep(0)  # lets the batch queue first
            group.create_task(one("urgent", Priority.INTERACTIVE, both.steering(["tr"], "scale", 2.0)))

    both.run(check())
    assert finished.index("urgent") <= 6, finished
    assert len(finished) == 13


def test_an_interactive_request_takes_the_place_of_a_batch_request(both: Both) -> None:
    """The batch is full. The step that computes its prompt has no other tokens, and no answer changes."""
    choices = steerings(both)[:2]
    batch = [
        GenerateRequest(prompt=TEXT[:50] + ending, sampling=GREEDY, steering=steering, priority=Priority.BATCH)
        for ending in ("", " and", " the", " in")
        for steering in choices
    ]
    urgent = GenerateRequest(prompt=TEXT[:9], sampling=replace(GREEDY, max_tokens=5), steering=choices[0])

    async def both_kinds() -> Any:
        answering = asyncio.create_task(answers(both.vllm, batch))
        while both.vllm.stats().running < SETTINGS.max_num_seqs:  # noqa: ASYNC110  # the engine signals no such event
            await asyncio.sleep(0.001)
        first = await answers(both.vllm, [urgent])
        return answering.done(), first, await answering

    with preempted(both) as counts, steps(both) as by_priority:
        overtaken, first, answered = both.run(both_kinds())
    assert not overtaken
    assert counts["steer"] >= 1
    (prompt,) = [step for step in by_priority if step[Priority.INTERACTIVE] > 1]
    assert prompt[Priority.BATCH] == 0
    assert any(step[Priority.INTERACTIVE] == 1 and step[Priority.BATCH] for step in by_priority)
    assert_same([*first, *answered], both.run(answers(both.reference, [urgent, *batch])))


@contextmanager
def steps(both: Both) -> Iterator[list[Counter[int]]]:
    """Yield the tokens of each step within the block, by the priority of their requests."""
    counted: list[Counter[int]] = []

    def wrap(engine: Any) -> Callable[..., Any]:
        schedule = scheduler(engine).schedule

        def counting(*args: Any) -> Any:
            output = schedule(*args)
            requests = scheduler(engine).requests
            tokens = Counter[int]()
            for request_id, count in output.num_scheduled_tokens.items():
                tokens[requests[request_id].priority] += count
            counted.append(tokens)
            return output

        scheduler(engine).schedule = counting
        return cast("Callable[..., Any]", schedule)

    schedule = both.run(both.vllm._loop.call(wrap))
    yield counted
    both.run(both.vllm._loop.call(lambda engine: setattr(scheduler(engine), "schedule", schedule)))


def test_vllm_counts_as_the_reference_does_and_reports_its_load(both: Both) -> None:
    before, during, after = both.run(stats_of_work(both.vllm))
    reference_before, _, reference_after = both.run(stats_of_work(both.reference))
    counted, expected = increase(before, after), increase(reference_before, reference_after)
    assert counted["generated_tokens"] == expected["generated_tokens"] == 12
    assert counted["prompt_tokens"] == expected["prompt_tokens"] - 1, "the last token of a scored text is not fed"
    assert counted["steps"] >= 7
    assert counted["steps"] <= counted["step_requests"] <= 2 * counted["steps"]
    assert 1 <= during.running <= 2, "the second answer may not have been taken up yet"
    assert (during.slots, during.batch_size) == (3, 4)
    assert during.kv_use is not None
    assert 0 < during.kv_use < 1
    both.run(both.vllm._loop.call(lambda _: None))  # the current step has ended
    idle = both.vllm.stats()
    assert (idle.running, idle.waiting, idle.slots_used, idle.slots_waiting) == (0, 0, 0, 0)


def test_a_dropped_neuron_set_steers_again_after_reloading(both: Both, tmp_path: Path) -> None:
    """Two of four sets stay loaded, also on the workers, and each steers as in the reference implementation."""
    sets, shape = NeuronSets(tmp_path), both.neurons.widths.shape
    names = [f"ns_{index}" for index in range(4)]
    for index, name in enumerate(names):
        pairs = np.argwhere(np.arange(np.prod(shape)).reshape(shape) % 4 == index).astype(np.int32)
        neurons = replace(both.neurons, id=name, neurons={"fr": pairs}, patch=None, residual_mean=None)
        sets.publish(name, neurons.save)
        both.reference.add_neurons(neurons)
    catalog: Any = None  # nothing is identified
    cache = NeuronSetCache(sets, engine=both.vllm, catalog=catalog, capacity=2)

    def scoring(name: str) -> ScoreRequest:
        steering = replace(both.steering(["fr"], "set", 2.0), neurons=name)
        return ScoreRequest(context="the thing", continuation=" in the end", steering=steering)

    def loaded(worker: Any) -> set[str]:
        return set(worker._steering._neuron_sets) & set(names)

    async def check() -> None:
        distinct = set()
        for name in [*names, names[0]]:
            await cache.load(NeuronsRef(id=name))
            ours, reference = await both.vllm.score(scoring(name)), await both.reference.score(scoring(name))
            np.testing.assert_allclose(ours.logprobs, reference.logprobs, rtol=0, atol=1e-4)
            distinct.add(reference.logprobs)
        assert len(distinct) == 4, "the sets must steer differently"
        assert await both.vllm._loop.call(lambda engine: engine.collective_rpc(loaded)) == [{names[0], names[3]}]
        with pytest.raises(UnknownName, match=names[1]):
            await both.vllm.score(scoring(names[1]))

    both.run(check())
