"""Chats with tools: which calls a request forces, and how calls are returned."""

from __future__ import annotations

from typing import Any

import pytest

from ampsweep.domain.generation.structured_outputs import StructuredOutputs
from ampsweep.errors import InvalidRequest
from api.auth.limits import Limits
from api.openai.chats.formatter import ChatFormatter
from api.openai.chats.request import parse_chat
from tests.api.openai.answer_chunks import TWO_CALLS, chunk

PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOL: dict[str, Any] = {"type": "function", "function": {"name": "weather", "parameters": PARAMETERS}}
NAMED = {"type": "function", "function": {"name": "weather"}}


def chat(**changes: Any) -> Any:
    body = {"model": "m", "messages": [{"role": "user", "content": "Weather?"}], "tools": [TOOL], **changes}
    return parse_chat(body)


def test_a_forced_call_is_a_structured_output_and_is_not_parsed() -> None:
    call = chat(tool_choice=NAMED).to_call(Limits())
    assert (call.sampling.structured_outputs, call.parse_tools) == (StructuredOutputs(json=PARAMETERS), None)
    assert call.tools == (TOOL,)
    any_call = chat(tool_choice="required", parallel_tool_calls=False).to_call(Limits()).sampling.structured_outputs
    assert any_call.json["maxItems"] == 1


def test_the_engine_parses_the_calls_that_the_model_decides_on() -> None:
    assert chat().to_call(Limits()).parse_tools == "whole"
    assert chat(stream=True, tool_choice="auto").to_call(Limits()).parse_tools == "stream"
    assert chat(tool_choice="none").to_call(Limits()).parse_tools is None


@pytest.mark.parametrize(
    ("param", "changes", "message"),
    [
        ("tool_choice", {"tools": None, "tool_choice": "required"}, "needs tools"),
        ("tool_choice", {"tools": [], "tool_choice": NAMED}, "needs tools"),
        (
            "tool_choice.function.name",
            {"tool_choice": {"type": "function", "function": {"name": "wether"}}},
            "must be one of the tools: weather",
        ),
        ("tool_choice", {"tool_choice": "required", "response_format": {"type": "json_object"}}, "leave one of them"),
        ("tool_choice", {"tool_choice": NAMED, "structured_outputs": {"regex": "a"}}, "leave one of them"),
        ("parallel_tool_calls", {"parallel_tool_calls": "no"}, "parallel_tool_calls"),
    ],
)
def test_an_impossible_choice_is_refused_by_its_field(param: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequest, match=message) as refused:
        chat(**changes)
    assert refused.value.param == param


def test_calls_are_returned_in_the_message() -> None:
    (choice,) = ChatFormatter(chat()).response(TWO_CALLS)["choices"]
    message = choice["message"]
    assert (choice["finish_reason"], message["content"]) == ("tool_calls", "I look.")
    first, second = message["tool_calls"]
    assert first == {
        "id": "call_1",
        "type": "function",
        "function": {"name": "weather", "arguments": '{"city": "Cairo"}'},
    }
    assert (second["function"], bool(second["id"])) == ({"name": "now", "arguments": "{}"}, True)
    again = chat(
        messages=[{"role": "user", "content": "a"}, message, {"role": "tool", "tool_call_id": "call_1", "content": "b"}]
    )
    assert again.to_call(Limits()).prompt[1].tool_calls[0]["function"]["arguments"] == {"city": "Cairo"}


def test_a_message_of_calls_alone_has_no_content() -> None:
    chunks = [chunk("{}"), chunk("", "stop")]
    (choice,) = ChatFormatter(chat(tool_choice=NAMED)).response(chunks)["choices"]
    assert choice["message"]["content"] is None
    assert choice["message"]["tool_calls"][0]["function"] == {"name": "weather", "arguments": "{}"}


def test_a_message_without_calls_is_as_it_was_without_tools() -> None:
    (choice,) = ChatFormatter(chat()).response([chunk("a"), chunk("b", "stop")])["choices"]
    assert choice["message"] == {"role": "assistant", "content": "ab", "refusal": None}
    assert choice["finish_reason"] == "stop"


def test_deltas_of_calls_add_up_to_them() -> None:
    formatter = ChatFormatter(chat(stream=True))
    choices = [event["choices"][0] for one in TWO_CALLS for event in formatter.events(one)]
    deltas = [choice["delta"] for choice in choices]
    assert deltas[0] == {"role": "assistant", "content": ""}
    assert [delta["content"] for delta in deltas[1:] if "content" in delta] == ["I look."]
    parts = [part for delta in deltas for part in delta.get("tool_calls", ())]
    assert parts[0] == {
        "index": 0,
        "id": "call_1",
        "type": "function",
        "function": {"name": "weather", "arguments": ""},
    }
    assert parts[1] == {"index": 0, "function": {"arguments": '{"city": '}}
    assert [part["index"] for part in parts] == [0, 0, 0, 1]
    assert [choice["finish_reason"] for choice in choices if choice["finish_reason"]] == ["tool_calls"]


def test_a_stream_with_log_probabilities_has_those_of_every_token() -> None:
    formatter = ChatFormatter(chat(stream=True, logprobs=True))
    choices = [event["choices"][0] for one in TWO_CALLS for event in formatter.events(one)]
    assert sum(len(choice["logprobs"]["content"]) for choice in choices if choice["logprobs"]) == len(TWO_CALLS)
