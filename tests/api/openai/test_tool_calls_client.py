"""Calls of tools with the `openai` client and a server on a socket, whose engine answers with calls."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import pytest

from ampsweep.domain.generation.chunk import Chunk
from engine.base import GenerateRequest
from engine.fake import FakeEngine
from tests.api.openai.answer_chunks import TWO_CALLS
from tests.api.openai.test_openai_client import client
from tests.worker.installation import Installation

pytestmark = [pytest.mark.processes, pytest.mark.anyio]

MESSAGES: Any = [{"role": "user", "content": "Weather?"}]
TOOL: Any = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


@pytest.fixture(autouse=True)
def calling(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the engine answer every request with a text and two calls."""

    async def generate(_: FakeEngine, request: GenerateRequest) -> AsyncGenerator[Chunk]:
        assert request.parse_tools is not None
        for chunk in TWO_CALLS:
            yield chunk

    monkeypatch.setattr(FakeEngine, "generate", generate)


async def test_a_chat_and_its_stream_have_the_same_calls(installation: Installation) -> None:
    async with client(installation) as (talking, _):
        whole = await talking.chat.completions.create(model="tiny", messages=MESSAGES, tools=[TOOL])
        async with talking.chat.completions.stream(model="tiny", messages=MESSAGES, tools=[TOOL]) as stream:
            streamed = await stream.get_final_completion()
    for answer in (whole, streamed):
        (choice,) = answer.choices
        assert (choice.finish_reason, choice.message.content) == ("tool_calls", "I look.")
        calls: Any = choice.message.tool_calls
        assert [(call.function.name, call.function.arguments) for call in calls] == [
            ("weather", '{"city": "Cairo"}'),
            ("now", "{}"),
        ]
        assert all(call.id and call.type == "function" for call in calls)


async def test_a_response_and_its_stream_have_the_same_calls(installation: Installation) -> None:
    tool: Any = {"type": "function", "name": "weather", "parameters": {"type": "object"}, "strict": False}
    params: dict[str, Any] = {"model": "tiny", "input": "Weather?", "tools": [tool]}
    async with client(installation) as (talking, _):
        whole = await talking.responses.create(**params)
        async with talking.responses.stream(**params) as stream:
            streamed = await stream.get_final_response()
        follow_up = [
            {"role": "user", "content": "Weather?"},
            *[item.model_dump(exclude_none=True) for item in whole.output],
            *[
                {"type": "function_call_output", "call_id": item.call_id, "output": "sunny"}
                for item in whole.output
                if item.type == "function_call"
            ],
        ]
        after = await talking.responses.create(**{**params, "input": follow_up})
    answers: list[Any] = [whole, streamed, after]
    for answer in answers:
        assert answer.output_text == "I look."
        calls = [item for item in answer.output if item.type == "function_call"]
        assert [(call.name, call.arguments) for call in calls] == [("weather", '{"city": "Cairo"}'), ("now", "{}")]
