from __future__ import annotations

from typing import Any

import pytest

from ampsweep.domain.generation.prompt import ChatMessage
from ampsweep.domain.generation.structured_outputs import StructuredOutputs
from ampsweep.errors import InvalidRequest
from api.auth.limits import Limits
from api.openai.generation_request import CHAT_MAX_TOKENS
from api.openai.responses.request import parse_response_request

BODY: dict[str, Any] = {"model": "m", "input": "Bonjour ?"}
USER = ChatMessage(role="user", content="Bonjour ?")


def messages(**changes: Any) -> Any:
    return parse_response_request({**BODY, **changes}).to_call(Limits()).prompt


def test_a_text_is_the_message_of_a_user_after_the_instructions() -> None:
    assert messages() == (USER,)
    assert messages(instructions="Be brief.") == (ChatMessage(role="system", content="Be brief."), USER)


def test_messages_may_have_parts_and_be_those_of_a_response() -> None:
    answer = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": [{"type": "output_text", "text": "Salut", "annotations": [], "logprobs": []}],
    }
    parts = [{"type": "input_text", "text": "Bon"}, {"type": "input_text", "text": "jour ?"}]
    given = [{"role": "developer", "content": "Be brief."}, answer, {"role": "user", "content": parts}]
    expected = (ChatMessage(role="system", content="Be brief."), ChatMessage(role="assistant", content="Salut"), USER)
    assert messages(input=given) == expected


def test_the_parameters_reach_the_engine() -> None:
    fields = {"max_output_tokens": 7, "temperature": 0.5, "top_p": 0.25, "top_k": 3, "seed": 9}
    logprobs = {"include": ["message.output_text.logprobs"], "top_logprobs": 2}
    sampling = parse_response_request({**BODY, **fields, **logprobs}).to_call(Limits()).sampling
    assert (sampling.max_tokens, sampling.temperature, sampling.top_p) == (7, 0.5, 0.25)
    assert (sampling.top_k, sampling.seed, sampling.top_logprobs, sampling.n) == (3, 9, 2, 1)
    assert parse_response_request(BODY).to_call(Limits()).sampling.max_tokens == CHAT_MAX_TOKENS


def test_a_text_format_is_a_form_of_structured_outputs() -> None:
    def form(text_format: dict[str, Any], **fields: Any) -> StructuredOutputs | None:
        request = parse_response_request({**BODY, "text": {"format": text_format}, **fields})
        return request.to_call(Limits()).sampling.structured_outputs

    schema = {"type": "object", "properties": {"currency": {"type": "string"}}}
    of_a_schema = {"type": "json_schema", "name": "answer", "schema": schema, "strict": True}
    assert form(of_a_schema) == StructuredOutputs(json=schema)
    assert form({"type": "json_object"}) == StructuredOutputs(json_object=True)
    assert form({"type": "text"}, structured_outputs={"regex": "a"}) == StructuredOutputs(regex="a")
    with pytest.raises(InvalidRequest, match="cannot be combined with structured_outputs") as refused:
        form(of_a_schema, structured_outputs={"regex": "a"})
    assert refused.value.param == "text"


def test_an_intervention_and_its_neurons_are_passed_on() -> None:
    scale = {"languages": ["fr"], "op": "scale", "factor": 2.0}
    call = parse_response_request({**BODY, "intervention": scale, "neurons": "ns_1"}).to_call(Limits())
    assert call.intervention is not None
    assert (call.intervention.factor, call.neurons) == (2.0, "ns_1")


def test_fields_without_effect_are_accepted() -> None:
    harmless: dict[str, Any] = {
        "store": False,
        "background": False,
        "previous_response_id": None,
        "conversation": None,
        "tools": [],
        "tool_choice": "auto",
        "parallel_tool_calls": True,
        "text": {"format": {"type": "text"}, "verbosity": "medium"},
        "truncation": "disabled",
        "service_tier": "auto",
        "metadata": {"run": "1"},
        "reasoning": {"effort": None},
        "include": [],
        "stream_options": {"include_obfuscation": False},
        "safety_identifier": "me",
        "prompt_cache_key": "k",
        "user": "me",
    }
    assert messages(**harmless) == (USER,)


@pytest.mark.parametrize(
    ("field", "value", "remedy"),
    [
        ("store", True, "must be false: responses are not stored"),
        ("background", True, "must be false: send the request without it"),
        ("previous_response_id", "resp_1", "send the earlier messages in input"),
        ("conversation", "conv_1", "send the earlier messages in input"),
        ("prompt", {"id": "p"}, "send their text in instructions"),
        ("tools.0.type", [{"type": "web_search"}], "only tools of type function are supported"),
        ("truncation", "drop", "'disabled'"),
        ("n", 2, "n: "),
        ("top_logprobs", 2, "needs include"),
        ("include.0", ["reasoning.encrypted_content"], "message.output_text.logprobs"),
        ("text.format.type", {"format": {"type": "xml"}}, "'json_schema'"),
        ("text.format.schema", {"format": {"type": "json_schema", "name": "a"}}, "is required by the type json_schema"),
        ("text.format.schema", {"format": {"type": "json_object", "schema": {}}}, "belongs to no other"),
        ("response_format", {"type": "json_object"}, "in text.format"),
        (
            "input.0",
            [{"type": "computer_call_output", "call_id": "c", "output": "4"}],
            "item of type computer_call_out",
        ),
        ("input.0.content", [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}], "input_image"),
        ("input", [], "at least 1"),
        ("max_tokens", 3, "unknown key max_tokens"),
    ],
)
def test_what_needs_more_than_a_text_is_refused_by_its_field(field: str, value: Any, remedy: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        messages(**{field.partition(".")[0]: value})
    assert caught.value.param == field
    assert remedy in caught.value.message


def test_the_limits_of_the_server_apply() -> None:
    request = parse_response_request({**BODY, "instructions": "x" * 50, "max_output_tokens": 100})
    for limits, param in ((Limits(prompt_chars=40), "input"), (Limits(max_tokens=50), "max_output_tokens")):
        with pytest.raises(InvalidRequest) as caught:
            request.to_call(limits)
        assert caught.value.param == param
