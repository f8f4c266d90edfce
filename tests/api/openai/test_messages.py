"""Messages with calls of tools, and the tools of a chat: from OpenAI's schema to what a chat template reads."""

from __future__ import annotations

from typing import Any

import pytest

from ampsweep.domain.generation.prompt import ChatMessage
from ampsweep.errors import InvalidRequest, PromptTooLong
from api.auth.limits import Limits
from api.openai.chats.request import parse_chat
from jobs.execution import CompletionCall

PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": PARAMETERS}}
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Cairo"}'}}
ASKED: list[dict[str, Any]] = [
    {"role": "developer", "content": "Be brief."},
    {"role": "user", "content": [{"type": "text", "text": "Weather?"}]},
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
]


def call_of(messages: list[dict[str, Any]] = ASKED, limits: Limits | None = None, **changes: Any) -> CompletionCall:
    return parse_chat({"model": "m", "messages": messages, **changes}).to_call(limits or Limits())


def test_calls_of_tools_and_their_answers_reach_the_template() -> None:
    called = {**CALL, "function": {"name": "weather", "arguments": {"city": "Cairo"}}}
    assert call_of().prompt == (
        ChatMessage(role="system", content="Be brief."),
        ChatMessage(role="user", content="Weather?"),
        ChatMessage(role="assistant", content="", tool_calls=(called,)),
        ChatMessage(role="tool", content="sunny", tool_call_id="call_1"),
    )
    as_object = {**CALL, "function": {**CALL["function"], "arguments": {"city": "Cairo"}}}  # type: ignore[dict-item]
    same = [*ASKED[:2], {"role": "assistant", "content": "", "tool_calls": [as_object]}, ASKED[3]]
    assert call_of(same).prompt == call_of().prompt


def test_tools_are_passed_on_unless_none_may_be_called() -> None:
    described = {"type": "function", "function": {"name": "now", "description": "The time.", "strict": None}}
    without_null = {"type": "function", "function": {"name": "now", "description": "The time."}}
    assert call_of(tools=[TOOL, described]).tools == (TOOL, without_null)
    assert call_of(tools=[TOOL], tool_choice="auto").tools == (TOOL,)
    assert call_of(tools=[TOOL], tool_choice="none").tools == ()
    assert call_of(tools=[]).tools == call_of(tools=None).tools == ()


def test_tools_and_calls_count_as_part_of_the_prompt() -> None:
    limits = Limits(prompt_chars=150)
    assert call_of(limits=limits).tools == ()
    with pytest.raises(PromptTooLong) as refused:
        call_of(limits=limits, tools=[TOOL])
    assert refused.value.param == "messages"


@pytest.mark.parametrize(
    ("param", "changes"),
    [
        ("tools", {"tools": "weather"}),
        ("tools.0.type", {"tools": [{**TOOL, "type": "retrieval"}]}),
        ("tools.0.function.name", {"tools": [{"type": "function", "function": {"name": "two words"}}]}),
        ("tools.0.function.wat", {"tools": [{"type": "function", "function": {"name": "a", "wat": 1}}]}),
        ("tool_choice", {"tool_choice": "auto"}),
        ("tool_choice", {"tools": [TOOL], "tool_choice": "always"}),
        ("tool_choice.name", {"tools": [TOOL], "tool_choice": {"type": "function", "name": "weather"}}),
        ("messages.0.content", {"messages": [{"role": "assistant", "content": None}]}),
        ("messages.0.content", {"messages": [{"role": "tool", "tool_call_id": "a"}]}),
        ("messages.0.tool_calls", {"messages": [{"role": "user", "content": "a", "tool_calls": [CALL]}]}),
        ("messages.0.tool_call_id", {"messages": [{"role": "user", "content": "a", "tool_call_id": "a"}]}),
        (
            "messages.0.tool_calls.0.function.arguments",
            {
                "messages": [
                    {
                        "role": "assistant",
                        "tool_calls": [{**CALL, "function": {"name": "weather", "arguments": "[1]"}}],
                    }
                ]
            },
        ),
    ],
)
def test_a_wrong_tool_or_call_is_refused_by_its_field(param: str, changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as refused:
        call_of(**changes)
    assert refused.value.param == param


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (r'{"a": "\ud800"}', "lone surrogates"),
        ('{"a": NaN}', "NaN is not valid JSON"),
        ('{"a": 1, "a": 2}', "the key 'a' occurs twice"),
        (f'{{"a": {"[" * 500}{"]" * 500}}}', "nested deeper than 32 levels"),
    ],
)
def test_the_text_of_arguments_is_read_like_a_body(arguments: str, reason: str) -> None:
    turn = {"role": "assistant", "tool_calls": [{**CALL, "function": {"name": "weather", "arguments": arguments}}]}
    with pytest.raises(InvalidRequest, match=reason) as refused:
        call_of(messages=[turn])
    assert refused.value.param == "messages.0.tool_calls.0.function.arguments"
