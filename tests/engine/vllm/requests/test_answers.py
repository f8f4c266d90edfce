"""The answers to a request: what is sent to vLLM, and how the text of an answer switches its steering."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from ampsweep.domain.drift import Drift
from ampsweep.domain.generation.sampling import SamplingParams
from ampsweep.domain.intervention import Intervention
from ampsweep.domain.languages.identifier import Identification
from ampsweep.errors import EngineFailed
from engine.base import GenerateRequest, Steering
from engine.detokenizer import TokenTexts
from engine.steering.answer_switch import AnswerSwitch
from engine.steering.drift import DriftSwitch
from engine.steering.thinking import PartSwitch, ThinkingMarkers
from engine.vllm.requests.answers import Answers, SwitchedAnswer
from tests.engine.tokenizers import byte_level

EAGER = Drift(min_characters=1, window=10, every=1, switch_on=1, switch_off=1)
STEERING = Steering(
    intervention=Intervention.from_dict({"languages": ["fr"], "op": "scale", "factor": 2, "when": "drift"}),
    neurons="ns",
)


class LastLetter:
    """Takes a text for the language that its last letter stands for."""

    identity = "last letter"
    languages = frozenset({"en", "fr"})

    def identify(self, text: str) -> Identification:
        return Identification({"e": "en", "f": "fr"}[text[-1]], 1.0)


def new_switch() -> AnswerSwitch:
    return AnswerSwitch(drift=DriftSwitch(EAGER, ["fr"], LastLetter()))


def output(text: str, *, tokens: int = 1, finished: bool = False) -> Any:
    return SimpleNamespace(outputs=[SimpleNamespace(text=text, token_ids=[1] * tokens)], finished=finished)


@pytest.mark.parametrize(
    ("ahead", "expected"),
    [(-1, [None, 12, 14]), (0, [None, 12, 14]), (2, [None, 14, 16])],  # the last: two more steps are in flight
)
def test_a_switch_takes_effect_at_the_next_token_that_no_step_has_begun(ahead: int, expected: list[Any]) -> None:
    answer = SwitchedAnswer("switch-1", new_switch(), prompt_tokens=10)
    positions = [
        answer.read(output(""), text="fe"[:generated], scheduled=10 + generated + ahead) for generated in (1, 2)
    ]
    positions.append(answer.read(output("", tokens=2), text="feeff", scheduled=10 + 4 + ahead))
    assert positions == expected
    start, end = (position - 10 for position in expected[1:])
    assert answer.history.spans(0, 99) == ((start, end),)


def test_steering_that_begins_with_the_answer_is_on_at_its_first_token() -> None:
    markers = ThinkingMarkers(start=7, end=1)
    switch = AnswerSwitch(part=PartSwitch("thinking", markers, [7]))
    answer = SwitchedAnswer("switch-1", switch, prompt_tokens=10)
    assert answer.history.on
    assert answer.read(output(""), text="", scheduled=10) == 11  # the token that ends the thinking part
    assert answer.history.spans(0, 9) == ((0, 1),)


class Loop:
    """Keeps what is submitted."""

    def __init__(self) -> None:
        self.submitted: list[dict[str, Any]] = []
        self.aborted: list[str] = []

    def submit(self, prompt: Any, params: Any, sink: Any, **more: Any) -> str:
        self.submitted.append({"prompt": prompt, "params": params, "sink": sink, **more})
        return f"request {len(self.submitted)}"

    def abort(self, request_id: str) -> None:
        self.aborted.append(request_id)


@pytest.mark.parametrize(
    ("stream", "switch", "expected"), [(True, None, True), (False, None, False), (False, new_switch, True)]
)
def test_an_answer_comes_token_by_token_if_it_is_streamed_or_its_text_switches_the_steering(
    stream: bool, switch: Any, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.vllm.requests.answers.answer_params", lambda _, **more: more)
    loop: Any = Loop()
    request = GenerateRequest(prompt="a", stream=stream, steering=None if switch is None else STEERING)

    async def submit() -> None:
        answers = Answers(loop, request, (5, 6), texts=TokenTexts(byte_level()), new_switch=switch)
        answers.submit(max_new_tokens=3, adapter=None)

    asyncio.run(submit())
    assert [one["params"]["stream"] for one in loop.submitted] == [expected]


def test_every_answer_has_a_switch_of_its_own_and_shares_the_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.vllm.requests.answers.answer_params", lambda _, **more: more)
    names = iter(["switch-1", "switch-2"])
    loop: Any = Loop()
    request = GenerateRequest(prompt="a", sampling=SamplingParams(n=2), steering=STEERING)

    async def check() -> None:
        answers = Answers(
            loop, request, (5, 6), texts=TokenTexts(byte_level()), new_switch=new_switch, new_key=lambda: next(names)
        )
        answers.submit(max_new_tokens=3, adapter=None)
        first, second = loop.submitted
        assert [one["params"]["extras"].steer.switch for one in (first, second)] == ["switch-1", "switch-2"]
        assert [one["switched"].key for one in (first, second)] == ["switch-1", "switch-2"]
        assert [one["params"]["extras"].steer.on for one in (first, second)] == [False, False]
        assert first["prompt"] == {"prompt_token_ids": [5, 6]}, "the prompt is not steered, so it needs no salt"
        second["sink"](output("f", finished=True))
        assert (await answers.next())[0] == 1
        first["sink"](EngineFailed("it died"))
        with pytest.raises(EngineFailed, match="it died"):
            await answers.next()
        answers.abort()
        assert loop.aborted == ["request 1"]

    asyncio.run(check())
