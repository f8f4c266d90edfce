"""Fields that have no counterpart are refused with the remedy, unless their value requests nothing."""

from __future__ import annotations

import ast
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from ampsweep.errors import InvalidRequest
from api.openai.chats.request import ChatRequest, parse_chat
from api.openai.completions.request import CompletionRequest, parse_completion
from api.openai.generation_request import GenerationRequest
from api.openai.responses.request import ResponseRequest, parse_response_request
from api.openai.unsupported import EVERYWHERE

COMPLETION: dict[str, Any] = {"model": "m", "prompt": "a"}
CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "a"}]}
RESPONSE: dict[str, Any] = {"model": "m", "input": "a"}
PARSERS: list[tuple[Callable[[object], GenerationRequest], dict[str, Any]]] = [
    (parse_completion, COMPLETION),
    (parse_chat, CHAT),
    (parse_response_request, RESPONSE),
]


def test_a_field_that_no_endpoint_has_is_refused_with_the_remedy() -> None:
    for parse, body in PARSERS:
        for name, unsupported in EVERYWHERE.items():
            with pytest.raises(InvalidRequest) as refused:
                parse({**body, name: {"some": "value"}})
            assert refused.value.param == name
            assert refused.value.message == f"{name}: {unsupported.remedy}"
            for harmless in (None, *unsupported.harmless):
                assert parse({**body, name: harmless}) == parse(body)


@pytest.mark.parametrize(
    ("parse", "body", "field", "remedy"),
    [
        (parse_completion, COMPLETION, {"chat_template_kwargs": {"enable_thinking": False}}, "/v1/chat/completions"),
        (parse_completion, COMPLETION, {"messages": []}, "/v1/chat/completions"),
        (parse_chat, CHAT, {"prompt": "a"}, "/v1/completions"),
        (parse_chat, CHAT, {"echo": True}, "the text that comes before the answer already"),
        (parse_chat, CHAT, {"functions": []}, "give tools"),
        (parse_response_request, RESPONSE, {"reasoning_effort": "low"}, "give reasoning"),
        (parse_response_request, RESPONSE, {"continue_final_message": True}, "the status incomplete"),
        (parse_response_request, RESPONSE, {"prompt_logprobs": 1}, "/v1/chat/completions"),
        (parse_completion, COMPLETION, {"length_penalty": True}, "n"),
        (parse_completion, COMPLETION, {"stream_interval": 2}, "leave it out"),
        (parse_completion, COMPLETION, {"wat": None}, "remove it, or use one of"),
    ],
)
def test_a_field_of_another_endpoint_is_refused_with_the_remedy(
    parse: Callable[[object], GenerationRequest], body: dict[str, Any], field: dict[str, Any], remedy: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse({**body, **field})
    assert refused.value.param == next(iter(field))
    assert remedy in refused.value.message


def test_a_chat_can_have_the_fields_that_clients_send_without_effect() -> None:
    harmless = {
        "store": True,
        "metadata": {"run": "1"},
        "modalities": ["text"],
        "service_tier": "auto",
        "verbosity": "medium",
        "safety_identifier": "me",
        "prompt_cache_key": "k",
        "echo": False,
        "use_beam_search": False,
        "length_penalty": 1,
    }
    assert parse_chat({**CHAT, **harmless}).messages == parse_chat(CHAT).messages
    for wrong in ({"modalities": ["audio"]}, {"service_tier": "priority"}, {"metadata": {"a": 1}}):
        with pytest.raises(InvalidRequest):
            parse_chat({**CHAT, **wrong})


@pytest.mark.parametrize(
    ("module", "name", "model"),
    [
        ("completion", "CompletionRequest", CompletionRequest),
        ("chat_completion", "ChatCompletionRequest", ChatRequest),
        ("responses", "ResponsesRequest", ResponseRequest),
    ],
)
def test_every_field_of_vllms_server_is_supported_or_has_a_remedy(
    module: str, name: str, model: type[GenerationRequest]
) -> None:
    """The fields are read from vLLM's source, because importing it takes long."""
    spec = find_spec("vllm")
    if spec is None or spec.origin is None:
        pytest.skip("vLLM is not installed")
    source = Path(spec.origin).parent / "entrypoints" / "openai" / module / "protocol.py"
    classes = {node.name: node for node in ast.walk(ast.parse(source.read_text())) if isinstance(node, ast.ClassDef)}
    fields = {
        node.target.id
        for node in classes[name].body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and not node.target.id.startswith("_")
    }
    assert len(fields) > 40
    assert fields - {*model.model_fields} - {*EVERYWHERE} - {*model.unsupported} == set()
