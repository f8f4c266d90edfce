"""A prompt of `generate` as a chat, on an engine in this process and on a server."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from ampsweep.cli.options.chat import chat_form
from ampsweep.domain.generation.chunk import Chunk
from ampsweep.domain.generation.prompt import ChatMessage, PromptOptions
from ampsweep.errors import InvalidRequest
from engine.base import GenerateRequest
from engine.fake import FakeEngine
from tests.ampsweep.cli.commands.local_commands import call

QUESTION = ChatMessage(role="user", content="Hello")
VARIABLES = {"enable_thinking": False}


def test_the_prompt_is_the_question_and_the_prefill_the_beginning_of_the_answer() -> None:
    assert chat_form(chat=False, prefill=None, variables=None) is None
    plain = chat_form(chat=True, prefill=None, variables=None)
    assert plain is not None
    assert (plain.messages("Hello"), plain.options(), plain.fields()) == ((QUESTION,), PromptOptions(), {})
    begun = chat_form(chat=True, prefill="Well,", variables=json.dumps(VARIABLES))
    assert begun is not None
    assert begun.messages("Hello") == (QUESTION, ChatMessage(role="assistant", content="Well,"))
    assert begun.options() == PromptOptions(continue_final_message=True, chat_template_kwargs=VARIABLES)
    assert begun.fields() == {"continue_final_message": True, "chat_template_kwargs": VARIABLES}


@pytest.mark.parametrize(
    ("param", "options"),
    [
        ("prefill", {"chat": False, "prefill": "a", "variables": None}),
        ("chat-template-kwargs", {"chat": False, "prefill": None, "variables": "{}"}),
        ("chat-template-kwargs", {"chat": True, "prefill": None, "variables": "[]"}),
        ("chat-template-kwargs", {"chat": True, "prefill": None, "variables": '{"tools": []}'}),
    ],
)
def test_an_option_that_cannot_have_an_effect_is_refused(param: str, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as refused:
        chat_form(**options)
    assert refused.value.param == param


def test_generate_answers_the_chat(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    requests: list[GenerateRequest] = []
    generate = FakeEngine.generate

    def recorded(engine: FakeEngine, request: GenerateRequest) -> AsyncGenerator[Chunk]:
        requests.append(request)
        return generate(engine, request)

    monkeypatch.setattr(FakeEngine, "generate", recorded)
    local = ("generate", "Hello", "--model", model, "--engine", "fake", "--max-tokens", 3)
    plain = call(*local)
    chat = call(*local, "--chat", "--prefill", "Well,", "--chat-template-kwargs", json.dumps(VARIABLES))
    assert (plain.exit_code, chat.exit_code) == (0, 0), chat.stderr
    assert plain.stdout != chat.stdout
    *_, text, answered = [request for request in requests if request.sampling.max_tokens == 3]
    assert (text.prompt, text.options) == ("Hello", PromptOptions())
    assert answered.prompt == (QUESTION, ChatMessage(role="assistant", content="Well,"))
    assert answered.options == PromptOptions(continue_final_message=True, chat_template_kwargs=VARIABLES)
