"""The calls of a task: each of them becomes a request, all under the same condition."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import replace

import pytest

from ampsweep.domain.drift import drift_of
from ampsweep.domain.generation.chunk import Chunk, joined_spans
from ampsweep.domain.generation.prompt import ChatMessage
from ampsweep.domain.generation.sampling import SamplingParams
from ampsweep.domain.intervention import Intervention
from ampsweep.errors import UnknownName
from benchmarks.comparisons.checksum_identifier import OFTEN, ChecksumIdentifier
from engine.base import GenerateRequest, Steering
from engine.fake import FAKE_INFO, FakeEngine
from jobs.tasks.requests import GenerateCall, ScoreCall
from tests.engine.neuron_sets import make_neuron_set
from worker.task_calls import TaskCalls

pytestmark = pytest.mark.anyio


async def test_an_answer_carries_the_tokens_and_their_logprobs() -> None:
    engine = FakeEngine(FAKE_INFO)
    scored = await TaskCalls(engine=engine, steering=None, seed=0).answer(ScoreCall(context="a", continuation=" b"))
    assert len(scored.logprobs) == len(scored.token_ids) == 2
    assert (scored.text, scored.error) == (None, None)
    drawn = await TaskCalls(engine=engine, steering=None, seed=0).answer(GenerateCall(prompt="a", max_tokens=3))
    assert len(drawn.logprobs) == len(drawn.token_ids) == 3
    assert drawn.text is not None
    assert len(drawn.text.split()) == 3


async def test_an_answer_says_which_of_its_tokens_were_steered() -> None:
    engine = FakeEngine(FAKE_INFO, open_identifier=ChecksumIdentifier)
    neurons = make_neuron_set({"en": [(0, 1)], "fr": [(2, 3)]}, layers=FAKE_INFO.layers, width=FAKE_INFO.width)
    engine.add_neurons(neurons)
    always = Intervention(languages=("fr",), op="scale", factor=5)
    steering = Steering(intervention=replace(always, when=drift_of(OFTEN)), neurons=neurons.id)
    call = GenerateCall(prompt="The", max_tokens=40)
    answer = await TaskCalls(engine=engine, steering=steering, seed=0).answer(call)
    request = GenerateRequest(prompt="The", sampling=SamplingParams(max_tokens=40, seed=0), steering=steering)
    spans = joined_spans([chunk.steered_spans async for chunk in engine.generate(request)])
    assert spans
    assert answer.steered_spans == tuple(spans)
    plain = await TaskCalls(engine=engine, steering=replace(steering, intervention=always), seed=0).answer(call)
    assert plain.steered_spans is None


async def test_a_generation_is_sampled_as_the_task_asks_and_not_streamed() -> None:
    requests: list[GenerateRequest] = []

    class RecordingEngine(FakeEngine):
        async def generate(self, request: GenerateRequest) -> AsyncGenerator[Chunk]:
            requests.append(request)
            async for chunk in super().generate(request):
                yield chunk

    engine = RecordingEngine(FAKE_INFO)
    greedy = GenerateCall(prompt="a", max_tokens=3)
    for call in (greedy, replace(greedy, temperature=0.3, top_p=0.75, stop=("\n",), seed=11)):
        await TaskCalls(engine=engine, steering=None, seed=5).answer(call)
    assert not any(request.stream for request in requests)
    assert [request.sampling for request in requests] == [
        SamplingParams(max_tokens=3, seed=5),
        SamplingParams(max_tokens=3, temperature=0.3, top_p=0.75, stop=("\n",), seed=11),
    ]


async def test_a_request_that_is_refused_is_an_answer_with_an_error() -> None:
    call = GenerateCall(prompt="a" * 5000, max_tokens=3)
    answer = await TaskCalls(engine=FakeEngine(FAKE_INFO), steering=None, seed=0).answer(call)
    assert answer.error is not None
    assert "5000 tokens" in answer.error
    assert answer.token_ids == ()


async def test_all_requests_of_a_cell_use_its_adapter() -> None:
    engine = FakeEngine(replace(FAKE_INFO, adapters={"a": "f" * 64}))
    for call in (ScoreCall(context="a", continuation=" b"), GenerateCall(prompt="a", max_tokens=3)):
        plain = await TaskCalls(engine=engine, steering=None, seed=0).answer(call)
        adapted = await TaskCalls(engine=engine, steering=None, seed=0, adapter="a").answer(call)
        assert adapted.logprobs != plain.logprobs
        with pytest.raises(UnknownName, match="unknown adapter 'b'; known: a"):
            await TaskCalls(engine=engine, steering=None, seed=0, adapter="b").answer(call)


async def test_all_chats_of_a_cell_have_its_template_variables() -> None:
    engine, chat = FakeEngine(FAKE_INFO), (ChatMessage(role="user", content="a"),)
    for call in (ScoreCall(context=chat, continuation=" b"), GenerateCall(prompt=chat, max_tokens=3)):
        answers = [
            await TaskCalls(engine=engine, steering=None, seed=0, variables=variables).answer(call)
            for variables in (None, {}, {"enable_thinking": False}, {"enable_thinking": True})
        ]
        assert answers[0] == answers[1]
        assert len({answer.logprobs for answer in answers}) == 3
