"""Fields of a prompt: how requests become the options of the engine, and which of them exclude each other."""

from __future__ import annotations

from typing import Any

import pytest

from ampsweep.domain.generation.prompt import PromptOptions
from ampsweep.errors import InvalidRequest, PromptTooLong
from api.auth.limits import Limits
from api.openai.chats.request import parse_chat
from api.openai.completions.request import parse_completion
from api.openai.responses.request import parse_response_request

USER: dict[str, Any] = {"role": "user", "content": "a"}
CUT: dict[str, Any] = {"role": "assistant", "content": "b", "status": "incomplete"}


def of_completion(**fields: Any) -> PromptOptions:
    (call,) = parse_completion({"model": "m", "prompt": "a", **fields}).to_calls(Limits())
    return call.options


def of_chat(**fields: Any) -> PromptOptions:
    return parse_chat({"model": "m", "messages": [USER], **fields}).to_call(Limits()).options


def of_response(**fields: Any) -> PromptOptions:
    return parse_response_request({"model": "m", "input": [USER], **fields}).to_call(Limits()).options


def test_a_prompt_has_the_options_that_its_fields_name() -> None:
    for options in (of_completion, of_chat, of_response):
        assert options() == PromptOptions()
        given: dict[str, Any] = {
            "add_special_tokens": True,
            "truncate_prompt_tokens": 8,
            "truncation_side": "right",
        }
        assert options(**given) == PromptOptions(**given)
        assert options(truncate_prompt_tokens=-1).truncate_prompt_tokens == -1
    assert of_response(truncation="auto") == PromptOptions(truncate_prompt_tokens=-1)
    assert of_response(truncation="disabled") == PromptOptions()


def test_a_chat_has_the_end_and_the_variables_that_its_fields_name() -> None:
    assert of_chat(add_generation_prompt=False) == PromptOptions(add_generation_prompt=False)
    assert of_chat(continue_final_message=True).continue_final_message
    assert of_chat(continue_final_message=True, add_generation_prompt=False).continue_final_message
    variables = of_chat(chat_template_kwargs={"enable_thinking": False}, documents=[{"title": "D"}])
    assert variables.chat_template_kwargs == {"enable_thinking": False, "documents": [{"title": "D"}]}


@pytest.mark.parametrize(
    ("effort", "given", "variables"),
    [
        ("none", None, {"reasoning_effort": "none", "enable_thinking": False}),
        ("low", {"x": 1}, {"reasoning_effort": "low", "enable_thinking": True, "x": 1}),
        ("high", {"enable_thinking": False}, {"reasoning_effort": "high", "enable_thinking": False}),
        ("high", {"reasoning_effort": "low"}, {"reasoning_effort": "high", "enable_thinking": True}),
        (None, {"reasoning_effort": "low"}, {"reasoning_effort": "low"}),
    ],
)
def test_the_reasoning_effort_is_a_variable_as_in_vllm(
    effort: str | None, given: dict[str, Any] | None, variables: dict[str, Any]
) -> None:
    """It also turns thinking on or off, unless the request does."""
    assert of_chat(reasoning_effort=effort, chat_template_kwargs=given).chat_template_kwargs == variables
    response = of_response(reasoning={"effort": effort}, chat_template_kwargs=given)
    assert response.chat_template_kwargs == variables


def test_the_variables_of_the_template_count_for_the_limit_of_a_prompt() -> None:
    """The template can write them into the prompt."""
    limits, documents = Limits(prompt_chars=100), [{"text": "x" * 90}]
    parse_chat({"model": "m", "messages": [USER]}).to_call(limits)
    with pytest.raises(PromptTooLong) as refused:
        parse_chat({"model": "m", "messages": [USER], "documents": documents}).to_call(limits)
    assert refused.value.param == "messages"
    response = parse_response_request({"model": "m", "input": "a", "chat_template_kwargs": {"documents": documents}})
    with pytest.raises(PromptTooLong) as refused:
        response.to_call(limits)
    assert refused.value.param == "input"


def test_a_response_continues_a_last_message_that_is_incomplete() -> None:
    assert of_response(input=[USER, CUT]).continue_final_message
    for items in ("a", [USER], [CUT, USER], [USER, {**CUT, "status": "completed"}], [{**USER, "status": "incomplete"}]):
        assert not of_response(input=items).continue_final_message


@pytest.mark.parametrize(
    ("param", "fields"),
    [
        ("truncate_prompt_tokens", {"truncate_prompt_tokens": 0}),
        ("truncate_prompt_tokens", {"truncate_prompt_tokens": -2}),
        ("truncation_side", {"truncation_side": "left"}),
        ("truncation_side", {"truncation_side": "middle", "truncate_prompt_tokens": 2}),
        ("add_special_tokens", {"add_special_tokens": "yes"}),
    ],
)
def test_a_wrong_option_of_a_prompt_is_refused_by_its_field(param: str, fields: dict[str, Any]) -> None:
    for options in (of_completion, of_chat, of_response):
        with pytest.raises(InvalidRequest) as refused:
            options(**fields)
        assert refused.value.param == param


@pytest.mark.parametrize(
    ("param", "fields"),
    [
        ("add_generation_prompt", {"continue_final_message": True, "add_generation_prompt": True}),
        ("chat_template_kwargs.tools", {"chat_template_kwargs": {"tools": []}}),
        ("chat_template_kwargs.tokenize", {"chat_template_kwargs": {"a": 1, "tokenize": True}}),
        ("chat_template_kwargs", {"chat_template_kwargs": ["enable_thinking"]}),
        ("reasoning_effort", {"reasoning_effort": "huge"}),
        ("documents.0", {"documents": ["text"]}),
    ],
)
def test_a_wrong_option_of_a_chat_is_refused_by_its_field(param: str, fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as refused:
        of_chat(**fields)
    assert refused.value.param == param
