from __future__ import annotations

from typing import Any

import pytest

from ampsweep.domain.generation.prompt import ChatMessage
from ampsweep.domain.generation.structured_outputs import StructuredOutputs
from ampsweep.errors import InvalidRequest
from api.auth.limits import Limits
from api.openai.responses.request import parse_response_request
from jobs.execution import CompletionCall

PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOL: dict[str, Any] = {"type": "function", "name": "weather", "description": "d", "parameters": PARAMETERS}
ASKED: list[dict[str, Any]] = [
    {"role": "user", "content": "Weather?"},
    {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "I look."}]},
    {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "weather", "arguments": '{"city": "Cairo"}'},
    {"type": "function_call", "call_id": "c2", "name": "weather", "arguments": "{}", "status": "completed"},
    {"type": "function_call_output", "call_id": "c1", "output": "sunny"},
    {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "rain"}]},
]


def call_of(**changes: Any) -> CompletionCall:
    return parse_response_request({"model": "m", "input": ASKED, **changes}).to_call(Limits())


def _call(call_id: str, arguments: dict[str, Any]) -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": "weather", "arguments": arguments}}


def test_calls_and_their_outputs_reach_the_template() -> None:
    calls = (_call("c1", {"city": "Cairo"}), _call("c2", {}))
    answers = (
        ChatMessage(role="tool", content="sunny", tool_call_id="c1"),
        ChatMessage(role="tool", content="rain", tool_call_id="c2"),
    )
    user = ChatMessage(role="user", content="Weather?")
    assert call_of().prompt == (user, ChatMessage(role="assistant", content="I look.", tool_calls=calls), *answers)
    without_text = call_of(input=[ASKED[0], *ASKED[2:]]).prompt
    assert without_text == (user, ChatMessage(role="assistant", content="", tool_calls=calls), *answers)


def test_tools_have_the_form_that_templates_read_and_may_be_forced() -> None:
    tool = {"type": "function", "function": {"name": "weather", "description": "d", "parameters": PARAMETERS}}
    call = call_of(tools=[TOOL])
    assert (call.tools, call.parse_tools) == ((tool,), "whole")
    assert call_of(tools=[TOOL], stream=True).parse_tools == "stream"
    assert call_of(tools=[TOOL], tool_choice="none").tools == ()
    named = call_of(tools=[TOOL], tool_choice={"type": "function", "name": "weather"})
    assert (named.sampling.structured_outputs, named.parse_tools) == (StructuredOutputs(json=PARAMETERS), None)
    assert call_of(tools=[], tool_choice="auto").tools == ()


@pytest.mark.parametrize(
    ("param", "changes"),
    [
        ("tools.0.type", {"tools": [{"type": "web_search"}]}),
        ("tool_choice", {"tool_choice": "required"}),
        ("tool_choice.name", {"tools": [TOOL], "tool_choice": {"type": "function", "name": "wether"}}),
        ("tool_choice", {"tools": [TOOL], "tool_choice": "required", "text": {"format": {"type": "json_object"}}}),
        ("input.0.arguments", {"input": [{**ASKED[2], "arguments": "[1]"}]}),
        ("input.0.call_id", {"input": [{"type": "function_call_output", "output": "a"}]}),
        ("input.0", {"input": [{"type": "reasoning", "id": "rs_1", "summary": []}]}),
    ],
)
def test_a_wrong_tool_or_item_is_refused_by_its_field(param: str, changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as refused:
        call_of(**changes)
    assert refused.value.param == param
