"""From the body of a request to the engine's sampling parameters: every parameter, and the meaning of null."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any

import pytest

from ampsweep.domain.sampling import SamplingParams
from ampsweep.errors import InvalidRequest
from api.auth.limits import Limits
from api.openai.requests import parse_chat, parse_completion

GIVEN: dict[str, Any] = {
    "n": 3,
    "temperature": 0.5,
    "top_p": 0.25,
    "top_k": 5,
    "min_p": 0.125,
    "frequency_penalty": 1.5,
    "presence_penalty": -0.5,
    "repetition_penalty": 2.0,
    "seed": 10,
    "stop": ["x", "y"],
}
CHAT = {"model": "m", "messages": [{"role": "user", "content": "a"}]}
COMPLETION = {"model": "m", "prompt": "a"}


def completion(**changes: Any) -> SamplingParams:
    (call,) = parse_completion({**COMPLETION, **changes}).to_calls(Limits())
    return call.sampling


def chat(**changes: Any) -> SamplingParams:
    return parse_chat({**CHAT, **changes}).to_call(Limits()).sampling


def test_each_parameter_reaches_the_engine() -> None:
    expected = {**GIVEN, "stop": ("x", "y"), "ignore_eos": False}
    assert asdict(completion(**GIVEN, max_tokens=7, logprobs=4)) == {**expected, "max_tokens": 7, "top_logprobs": 4}
    chat_sampling = chat(**GIVEN, max_completion_tokens=8, logprobs=True, top_logprobs=2)
    assert asdict(chat_sampling) == {**expected, "max_tokens": 8, "top_logprobs": 2}
    assert set(expected) | {"max_tokens", "top_logprobs"} == {field.name for field in fields(SamplingParams)}


@pytest.mark.parametrize("nothing", [{}, dict.fromkeys(GIVEN)])
def test_a_parameter_that_is_missing_or_null_has_its_default(nothing: dict[str, Any]) -> None:
    assert completion(**nothing) == SamplingParams(temperature=0.0, max_tokens=16)
    assert chat(**nothing) == SamplingParams(temperature=0.0, max_tokens=1024)


def test_zero_is_a_value_and_minus_one_keeps_all_tokens() -> None:
    assert completion(temperature=0, top_k=-1, max_tokens=16) == SamplingParams(max_tokens=16)


@pytest.mark.parametrize("kind", ["image_url", "input_audio", "video_url", "file"])
def test_an_image_is_refused_by_its_field(kind: str) -> None:
    parts = [{"type": "text", "text": "What is this?"}, {"type": kind, kind: {"url": "http://x"}}]
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": parts}]
    with pytest.raises(InvalidRequest, match=f"a part of type {kind}, but only text is sent to models") as caught:
        parse_chat({"model": "m", "messages": messages})
    assert caught.value.param == "messages.1.content"
    (message,) = parse_chat({"model": "m", "messages": [{"role": "user", "content": parts[:1]}]}).messages
    assert message.content == "What is this?"


@pytest.mark.parametrize(("field", "wrong"), [("ignore_eos", True), ("n", 129), ("seed", -1), ("top_p", 0.0)])
def test_a_wrong_parameter_is_refused_by_its_name(field: str, wrong: Any) -> None:
    for parse, body in ((parse_completion, COMPLETION), (parse_chat, CHAT)):
        with pytest.raises(InvalidRequest) as refused:
            parse({**body, field: wrong})
        assert refused.value.param == field
