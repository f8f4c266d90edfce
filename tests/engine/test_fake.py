from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ampsweep.domain.generation.chunk import Chunk, joined_spans
from ampsweep.domain.generation.prompt import ChatMessage, Prompt
from ampsweep.domain.generation.sampling import SamplingParams
from ampsweep.domain.intervention import Intervention
from ampsweep.errors import EngineFailed, InvalidRequest, UnknownName
from ampsweep.folders.corpus import Sentence
from benchmarks.comparisons.checksum_identifier import OFTEN, ChecksumIdentifier
from engine.base import CaptureRequest, GenerateRequest, Score, ScoreRequest, Steering
from engine.capture.selection import NeuronSelection
from engine.fake import FAKE_INFO, FakeEngine
from engine.identify.record_request import RecordRequest
from tests.engine.neuron_sets import make_neuron_set

NEURONS = make_neuron_set({"en": [(0, 1)], "fr": [(2, 3)]}, layers=FAKE_INFO.layers, width=FAKE_INFO.width)


def _engine(**options: Any) -> FakeEngine:
    engine = FakeEngine(**options)
    engine.add_neurons(NEURONS)
    return engine


def _steering(**change: Any) -> Steering:
    raw = {"languages": ["fr"], "op": "scale", "factor": 5, **change}
    return Steering(intervention=Intervention.from_dict(raw), neurons=NEURONS.id)


def _score(engine: FakeEngine, continuation: str, steering: Steering | None = None) -> Score:
    return asyncio.run(engine.score(ScoreRequest(context="The", continuation=continuation, steering=steering)))


def _generate(engine: FakeEngine, prompt: Prompt, steering: Steering | None = None, **sampling: Any) -> list[Chunk]:
    async def collect() -> list[Chunk]:
        request = GenerateRequest(prompt=prompt, sampling=SamplingParams(**sampling), steering=steering)
        return [chunk async for chunk in engine.generate(request)]

    return asyncio.run(collect())


def test_answers_depend_only_on_text_and_steering() -> None:
    one, two = _engine(), _engine()
    for steering in (None, _steering(), _steering(factor=2.0), _steering(scope="prompt")):
        assert _score(one, " end", steering) == _score(two, " end", steering)
        assert _generate(one, "The", steering) == _generate(two, "The", steering)
    differing = (None, _steering(), _steering(factor=2.0), _steering(tokens={"end": 2}), _steering(tokens={"end": 3}))
    scores = {_score(one, " end", steering) for steering in differing}
    assert len(scores) == len(differing)
    assert _generate(one, "The") != _generate(one, "The", _steering())
    assert all(-8 <= value < 0 for score in scores for value in score.logprobs)


def test_a_stream_ends_with_a_reason() -> None:
    chunks = _generate(_engine(), "The", max_tokens=5)
    assert [chunk.finish_reason for chunk in chunks] == [None] * 4 + ["length"]
    text = "".join(chunk.text for chunk in chunks)
    stop = text.split()[2]
    cut = _generate(_engine(), "The", max_tokens=5, stop=(stop,))
    assert "".join(chunk.text for chunk in cut) == text[: text.find(stop)]
    assert cut[-1].finish_reason == "stop"


def test_answers_to_one_prompt_differ_if_sampled() -> None:
    drawn, greedy = (_generate(_engine(), "The", n=3, max_tokens=4, temperature=heat) for heat in (1.0, 0.0))
    for chunks, distinct in ((drawn, 3), (greedy, 1)):
        assert [chunk.index for chunk in chunks] == [0] * 4 + [1] * 4 + [2] * 4
        assert len({"".join(chunk.text for chunk in chunks[start : start + 4]) for start in (0, 4, 8)}) == distinct


def test_alternatives_begin_with_the_likeliest() -> None:
    (chunk,) = _generate(_engine(), "The", max_tokens=1, top_logprobs=3)
    (alternatives,) = chunk.top_logprobs
    assert alternatives[0] == (chunk.token_ids[0], chunk.logprobs[0], chunk.text)
    assert [entry.logprob for entry in alternatives] == sorted((entry.logprob for entry in alternatives), reverse=True)
    assert len({entry.token_id for entry in alternatives}) == 3


def test_a_chat_is_answered_like_a_prompt() -> None:
    chat = (ChatMessage(role="user", content="Hi"),)
    assert _generate(_engine(), chat) == _generate(_engine(), "user: Hi\nassistant:")
    assert _generate(_engine(), chat) != _generate(_engine(), (ChatMessage(role="user", content="Ho"),))


def test_failures_and_delays_are_configurable() -> None:
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    engine = _engine(sleep=sleep, seconds_per_step=0.25, fail_on="BOOM")
    assert len(_generate(engine, "The", max_tokens=3)) == 3
    assert waited == [0.25] * 3
    for broken in (lambda: _score(engine, "BOOM"), lambda: _generate(engine, "a BOOM")):
        with pytest.raises(EngineFailed, match="as configured with fail_on"):
            broken()
    assert _score(engine, "fine").logprobs


def test_invalid_requests_are_rejected() -> None:
    engine = _engine(info=replace(FAKE_INFO, max_model_len=10))
    with pytest.raises(InvalidRequest) as caught:
        _generate(engine, "x" * 11)
    assert caught.value.param == "prompt"
    with pytest.raises(InvalidRequest) as caught:
        _score(engine, "x" * 8)
    assert caught.value.param == "context"
    with pytest.raises(InvalidRequest) as caught:
        _score(engine, "")
    assert caught.value.param == "continuation"
    with pytest.raises(UnknownName, match="en, fr"):
        _score(engine, "x", _steering(languages=["de"]))
    with pytest.raises(UnknownName, match=NEURONS.id):
        _score(engine, "x", replace(_steering(), neurons="ns_no"))
    with pytest.raises(InvalidRequest, match="3 layers"):
        engine.add_neurons(make_neuron_set({"en": []}))


def test_a_recording_has_neurons_that_prefer_a_language() -> None:
    sentences = [Sentence(language=code, text=f"Sentence {number}") for code in ("en", "fr") for number in range(5)]
    stats = asyncio.run(_engine().record(sentences, RecordRequest(max_tokens=1000)))
    again = asyncio.run(_engine().record(sentences, RecordRequest(max_tokens=1000)))
    np.testing.assert_array_equal(stats.counts, again.counts)
    assert stats.languages == ("en", "fr")
    share = stats.counts / stats.tokens[:, None, None]
    assert ((share[0] > 0.7) & (share[1] < 0.3)).any()


def test_activations_depend_on_the_tokens_up_to_theirs_the_neuron_and_the_steering() -> None:
    def captured(prompt: str, indices: list[int], steering: Steering | None = None) -> Any:
        neurons = NeuronSelection.of({0: np.array(indices), 2: np.array([1])})
        return asyncio.run(_engine().capture(CaptureRequest(prompt=prompt, neurons=neurons, steering=steering)))

    one, longer, fewer = captured("ab", [3, 9]), captured("abc", [3, 9]), captured("ab", [9])
    assert one.token_ids == (256, *b"ab")
    assert one.token_texts == ("", "a", "b")
    assert [part.shape for part in one.activations] == [(3, 2), (3, 1)]
    np.testing.assert_array_equal(one.activations[0], longer.activations[0][:3])
    np.testing.assert_array_equal(one.activations[0][:, 1:], fewer.activations[0])
    assert not np.array_equal(one.activations[0], captured("ab", [3, 9], _steering()).activations[0])
    assert not np.array_equal(one.activations[0][2], captured("xb", [3, 9]).activations[0][2])


def test_an_answer_is_steered_while_its_text_drifts_and_says_where() -> None:
    engine, steering = _engine(open_identifier=ChecksumIdentifier), _steering(when=OFTEN)
    plain, always, drifting = (
        [chunk.token_ids[0] for chunk in _generate(engine, "The", which, max_tokens=40)]
        for which in (None, _steering(when=None, scope="generation"), steering)
    )
    chunks = _generate(engine, "The", steering, max_tokens=40)
    spans = joined_spans(chunk.steered_spans for chunk in chunks)
    assert spans is not None
    assert len(spans) > 1
    steered = {token for start, end in spans for token in range(start, end)}
    assert plain[:1] == drifting[:1]
    unsteered = [token for token in range(39) if token not in steered]
    assert [drifting[token + 1] for token in unsteered] == [plain[token + 1] for token in unsteered]
    assert [drifting[token + 1] for token in steered if token < 39] != [
        plain[token + 1] for token in steered if token < 39
    ]
    assert always != drifting
    assert all(chunk.steered_spans is None for chunk in _generate(engine, "The", _steering()))


def test_running_text_needs_an_identifier_and_an_answer() -> None:
    with pytest.raises(InvalidRequest, match="without a language identifier"):
        _generate(_engine(), "The", _steering(when="drift"))
    with pytest.raises(InvalidRequest, match="leave part out"):
        _generate(_engine(), "The", _steering(part="thinking"))
    with pytest.raises(InvalidRequest, match="no running text"):
        _score(_engine(open_identifier=ChecksumIdentifier), " end", _steering(when="drift"))
