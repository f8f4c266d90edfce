"""From the body of a request to the engine's sampling parameters: every parameter, and the meaning of null."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import pytest

from ampsweep.domain.generation.sampling import SamplingParams
from ampsweep.domain.generation.structured_outputs import StructuredOutputs
from ampsweep.errors import InvalidRequest
from api.auth.limits import Limits
from api.openai.chats.request import parse_chat
from api.openai.completions.request import parse_completion

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
    "min_tokens": 2,
    "stop_token_ids": [7, 9],
    "include_stop_str_in_output": True,
    "ignore_eos": True,
    "bad_words": ["z"],
    "logit_bias": {"5": -1.5, "6": 100},
    "allowed_token_ids": [5, 6],
    "structured_outputs": {"regex": "[a-z]+"},
    "skip_special_tokens": False,
    "spaces_between_special_tokens": False,
}
AS_VALUES: dict[str, Any] = {
    "stop": ("x", "y"),
    "stop_token_ids": (7, 9),
    "bad_words": ("z",),
    "logit_bias": {5: -1.5, 6: 100.0},
    "allowed_token_ids": (5, 6),
    "structured_outputs": StructuredOutputs(regex="[a-z]+"),
}
CHAT = {"model": "m", "messages": [{"role": "user", "content": "a"}]}
COMPLETION = {"model": "m", "prompt": "a"}


def completion(**changes: Any) -> SamplingParams:
    (call,) = parse_completion({**COMPLETION, **changes}).to_calls(Limits())
    return call.sampling


def chat(**changes: Any) -> SamplingParams:
    return parse_chat({**CHAT, **changes}).to_call(Limits()).sampling


def test_each_parameter_reaches_the_engine() -> None:
    expected = {**GIVEN, **AS_VALUES}
    assert vars(completion(**GIVEN, max_tokens=7, logprobs=4)) == {**expected, "max_tokens": 7, "top_logprobs": 4}
    chat_sampling = chat(**GIVEN, max_completion_tokens=8, logprobs=True, top_logprobs=2)
    assert vars(chat_sampling) == {**expected, "max_tokens": 8, "top_logprobs": 2}
    assert set(expected) | {"max_tokens", "top_logprobs"} == {field.name for field in fields(SamplingParams)}


@pytest.mark.parametrize("nothing", [{}, dict.fromkeys(GIVEN)])
def test_a_parameter_that_is_missing_or_null_has_its_default(nothing: dict[str, Any]) -> None:
    assert completion(**nothing) == SamplingParams(temperature=0.0, max_tokens=16)
    assert chat(**nothing) == SamplingParams(temperature=0.0, max_tokens=1024)


def test_a_request_can_only_run_behind_those_of_others() -> None:
    for priority, expected in ((None, 0), (0, 0), (1, 1), (7, 7)):
        (call,) = parse_completion({**COMPLETION, "priority": priority}).to_calls(Limits())
        assert call.priority == parse_chat({**CHAT, "priority": priority}).to_call(Limits()).priority == expected
    with pytest.raises(InvalidRequest, match="must be at least 0, the priority of interactive requests") as refused:
        completion(priority=-1)
    assert refused.value.param == "priority"


def test_zero_is_a_value_and_minus_one_keeps_all_tokens() -> None:
    assert completion(temperature=0, top_k=-1, max_tokens=16) == SamplingParams(max_tokens=16)


@pytest.mark.parametrize(
    ("param", "changes"),
    [
        ("stream_options", {"stream_options": {"include_usage": True}}),
        ("stream_options", {"stream_options": {}, "stream": False}),
        ("stream_options.wat", {"stream_options": {"wat": True}, "stream": True}),
        ("stream_options.include_usage", {"stream_options": {"include_usage": "yes"}, "stream": True}),
        (
            "stream_options.continuous_usage_stats",
            {"stream_options": {"continuous_usage_stats": True}, "stream": True},
        ),
    ],
)
def test_options_of_a_stream_need_one(param: str, changes: dict[str, Any]) -> None:
    for call in (completion, chat):
        with pytest.raises(InvalidRequest) as refused:
            call(**changes)
        assert refused.value.param == param
        assert call(stream=True, stream_options={"include_usage": None}).n == 1


@pytest.mark.parametrize("kind", ["image_url", "input_audio", "video_url", "file"])
def test_an_image_is_refused_by_its_field(kind: str) -> None:
    parts = [{"type": "text", "text": "What is this?"}, {"type": kind, kind: {"url": "http://x"}}]
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": parts}]
    with pytest.raises(InvalidRequest, match=f"a part of type {kind}, but only text is sent to models") as caught:
        parse_chat({"model": "m", "messages": messages})
    assert caught.value.param == "messages.1.content"
    (message,) = parse_chat({"model": "m", "messages": [{"role": "user", "content": parts[:1]}]}).messages
    assert message.content == "What is this?"


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("ignore_eos", "yes"),
        ("n", 129),
        ("seed", -1),
        ("top_p", 0.0),
        ("min_tokens", -1),
        ("min_tokens", 1.5),
        ("stop_token_ids", 3),
        ("stop_token_ids", [0] * 65),
        ("stop_token_ids.1", [0, -1]),
        ("stop_token_ids.0", ["3"]),
        ("allowed_token_ids", []),
        ("allowed_token_ids.1", [5, -1]),
        ("skip_special_tokens", 0),
        ("bad_words", "a"),
        ("bad_words.1", ["a", ""]),
        ("bad_words.0", [" \t"]),
        ("include_stop_str_in_output", 1),
        ("logit_bias", [1]),
        ("logit_bias.7", {"7": 101}),
        ("logit_bias.07", {"7": 1, "07": 2}),
        ("logit_bias.-0", {"0": 1, "-0": 2}),
        ("logit_bias. 7", {" 7": 1}),
        ("logit_bias.7", {"7": "5"}),
        ("logit_bias.the", {"the": 5}),
        ("logit_bias.-1", {"-1": 5}),
        ("logit_bias", {str(token): 1 for token in range(1025)}),
        ("structured_outputs", {}),
        ("structured_outputs", {"regex": "a", "json_object": True}),
        ("structured_outputs.wat", {"wat": "a"}),
        ("structured_outputs.choice", {"choice": []}),
        ("structured_outputs.choice.1", {"choice": ["a", ""]}),
        ("structured_outputs.json_object", {"json_object": False}),
        ("structured_outputs.json_object", {"json_object": 1}),
        ("structured_outputs.regex", {"regex": ""}),
    ],
)
def test_a_wrong_parameter_is_refused_by_its_name(field: str, wrong: Any) -> None:
    for call in (completion, chat):
        with pytest.raises(InvalidRequest) as refused:
            call(**{field.partition(".")[0]: wrong})
        assert refused.value.param == field


@pytest.mark.parametrize(
    ("call", "limits", "most"),
    [
        (completion, {}, 16),
        (completion, {"max_tokens": 5}, 5),
        (chat, {}, 1024),
        (chat, {"max_tokens": 5}, 5),
        (chat, {"max_completion_tokens": 6}, 6),
    ],
)
def test_min_tokens_may_equal_max_tokens_but_not_exceed_it(
    call: Callable[..., SamplingParams], limits: dict[str, int], most: int
) -> None:
    assert call(min_tokens=most, **limits).min_tokens == most
    for wrong in (most + 1, 2000):
        with pytest.raises(InvalidRequest, match=f"at most max_tokens, which is {most}; got {wrong}") as refused:
            call(min_tokens=wrong, **limits)
        assert refused.value.param == "min_tokens"


def test_no_tokens_are_required_where_none_are_generated() -> None:
    assert completion(echo=True, max_tokens=0, min_tokens=0).min_tokens == 0
    with pytest.raises(InvalidRequest, match="must be 0 if max_tokens is 0") as refused:
        completion(echo=True, max_tokens=0, min_tokens=1)
    assert refused.value.param == "min_tokens"


def test_a_response_format_is_a_form_of_structured_outputs() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    as_openai = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema, "strict": True}}
    for call in (completion, chat):
        assert call(response_format=as_openai).structured_outputs == StructuredOutputs(json=schema)
        assert call(response_format={"type": "json_object"}).structured_outputs == StructuredOutputs(json_object=True)
        assert call(response_format={"type": "text"}).structured_outputs is None
        with pytest.raises(InvalidRequest, match="cannot be combined with structured_outputs") as refused:
            call(response_format={"type": "json_object"}, structured_outputs={"regex": "a"})
        assert refused.value.param == "response_format"
