"""vLLM's fields for the tokens of a prompt and of an answer."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest

from ampsweep.domain.generation.chunk import Chunk, PromptPart, TokenLogprob
from ampsweep.errors import InvalidRequest
from api.auth.limits import Limits
from api.openai.chats.formatter import ChatFormatter
from api.openai.chats.request import parse_chat
from api.openai.completions.formatter import CompletionFormatter
from api.openai.completions.request import parse_completion
from tests.api.openai.completion import REQUEST, complete, pieces
from tests.api.running_server import running_server
from tests.worker.installation import Installation

COMPLETION = {"model": "m", "prompt": "ab"}
CHAT = {"model": "m", "messages": [{"role": "user", "content": "a"}]}
PART = PromptPart(
    text="ab",
    token_ids=(7, 8),
    token_texts=("a", "b"),
    text_offsets=(0, 1),
    logprobs=(None, -2.5),
    ranks=(None, 4),
    top_logprobs=((), (TokenLogprob(3, -0.5, "c"), TokenLogprob(5, -1.5, "d"))),
)
ALTERNATIVES = {
    "3": {"logprob": -0.5, "rank": 1, "decoded_token": "c"},
    "5": {"logprob": -1.5, "rank": 2, "decoded_token": "d"},
}
OWN = {"8": {"logprob": -2.5, "rank": 4, "decoded_token": "b"}}


def chunk(index: int = 0, token: int = 1, **more: Any) -> Chunk:
    return Chunk(
        index=index,
        text="x",
        token_ids=(token,),
        token_texts=("x",),
        text_offsets=(0,),
        logprobs=(-1.0,),
        top_logprobs=((),),
        prompt_tokens=2,
        **more,
    )


FIRST = chunk(prompt=PART, prompt_token_ids=(7, 8))


def test_a_call_asks_for_as_many_tokens_as_the_fields_need() -> None:
    for fields, logprobs in (
        ({}, None),
        ({"prompt_logprobs": 0}, 0),
        ({"prompt_logprobs": 3}, 3),
        ({"echo": True}, 0),
        ({"echo": True, "logprobs": 5, "prompt_logprobs": 3}, 5),
        ({"echo": True, "logprobs": 1, "prompt_logprobs": 3}, 3),
    ):
        (call,) = parse_completion({**COMPLETION, **fields}).to_calls(Limits())
        assert (call.prompt_logprobs, call.return_token_ids) == (logprobs, False)
    call = parse_chat({**CHAT, "prompt_logprobs": 2, "return_token_ids": True}).to_call(Limits())
    assert (call.prompt_logprobs, call.return_token_ids) == (2, True)


def test_the_choices_of_a_completion_have_the_tokens() -> None:
    request = parse_completion({**COMPLETION, "prompt_logprobs": 1, "return_token_ids": True, "n": 2})
    second = chunk(1, 5, prompt=PART, prompt_token_ids=(7, 8))
    choices = CompletionFormatter(request).response([FIRST, second, chunk(0, 2)])["choices"]
    assert [choice["token_ids"] for choice in choices] == [[1, 2], [5]]
    for choice in choices:
        assert choice["prompt_token_ids"] == [7, 8]
        assert choice["prompt_logprobs"] == [None, {**OWN, "3": ALTERNATIVES["3"]}]
        assert choice["text"].startswith("x"), "not echoed"


def test_an_echo_has_its_own_number_of_alternatives() -> None:
    fields = {"prompt_logprobs": 2, "echo": True, "logprobs": 1, "max_tokens": 0, "return_token_ids": True}
    (choice,) = CompletionFormatter(parse_completion({**COMPLETION, **fields})).response([FIRST])["choices"]
    assert choice["prompt_logprobs"] == [None, {**OWN, **ALTERNATIVES}]
    assert choice["logprobs"]["top_logprobs"] == [None, {"c": -0.5, "b": -2.5}]
    assert (choice["text"], choice["token_ids"]) == ("ab", [])


def test_a_chat_has_the_tokens_of_its_prompt_once() -> None:
    request = parse_chat({**CHAT, "prompt_logprobs": 0, "return_token_ids": True})
    response = ChatFormatter(request).response([FIRST, chunk(token=2)])
    assert response["prompt_token_ids"] == [7, 8]
    assert response["prompt_logprobs"] == [None, OWN]
    assert response["choices"][0]["token_ids"] == [1, 2]


def test_a_log_probability_that_json_cannot_express_is_shown_as_elsewhere() -> None:
    part = replace(
        PART,
        logprobs=(None, math.nan),
        top_logprobs=((), (TokenLogprob(3, -0.5, "c"), TokenLogprob(5, -math.inf, "d"))),
    )
    request = parse_chat({**CHAT, "prompt_logprobs": 2})
    _, entry = ChatFormatter(request).response([chunk(prompt=part)])["prompt_logprobs"]
    assert {token: each["logprob"] for token, each in entry.items()} == {"8": None, "3": -0.5, "5": -9999.0}


def test_no_field_is_added_to_a_request_without_them() -> None:
    response = ChatFormatter(parse_chat(CHAT)).response([chunk()])
    assert not {"prompt_token_ids", "prompt_logprobs"} & {*response}
    (choice,) = CompletionFormatter(parse_completion(COMPLETION)).response([chunk()])["choices"]
    assert {*choice} == {"index", "text", "logprobs", "finish_reason"}


@pytest.mark.anyio
async def test_a_stream_has_the_tokens_of_the_prompt_in_its_first_event(installation: Installation) -> None:
    """The fake engine reads the bytes of the prompt."""
    chat: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "a"}], "max_tokens": 3}
    async with running_server(installation) as server:
        whole = await complete(server, return_token_ids=True, n=2, prompt_logprobs=1)
        streams = [
            await server.http.post(path, json={**body, "stream": True, "return_token_ids": True})
            for path, body in (("/v1/completions", REQUEST), ("/v1/chat/completions", chat))
        ]
    completion, answered = ([json.loads(data) for data in pieces(each.text)[:-1]] for each in streams)
    assert [choice["prompt_token_ids"] for choice in whole["choices"]] == [[*REQUEST["prompt"].encode()]] * 2
    assert len(whole["choices"][0]["prompt_logprobs"]) == len(REQUEST["prompt"])
    choices = [event["choices"][0] for event in completion]
    assert [choice.get("prompt_token_ids") for choice in choices] == [[*REQUEST["prompt"].encode()], *[None] * 4]
    assert [token for choice in choices for token in choice["token_ids"]] == whole["choices"][0]["token_ids"]
    assert [event.get("prompt_token_ids") for event in answered][1:] == [None] * (len(answered) - 1)
    assert bytes(answered[0]["prompt_token_ids"]).startswith(b"user: a")
    assert len([token for event in answered for token in event["choices"][0].get("token_ids", [])]) == 3


@pytest.mark.parametrize(
    ("param", "fields"),
    [
        ("prompt_logprobs", {"prompt_logprobs": 1, "stream": True}),
        ("prompt_logprobs", {"prompt_logprobs": 21}),
        ("prompt_logprobs", {"prompt_logprobs": -1}),
        ("prompt_logprobs", {"prompt_logprobs": True}),
        ("return_token_ids", {"return_token_ids": 1}),
    ],
)
def test_a_wrong_field_is_refused_by_its_name(param: str, fields: dict[str, Any]) -> None:
    for parse, body in ((parse_completion, COMPLETION), (parse_chat, CHAT)):
        with pytest.raises(InvalidRequest) as refused:
            parse({**body, **fields})
        assert refused.value.param == param


def test_the_whole_vocabulary_is_refused_with_the_remedy() -> None:
    for parse, body in (
        (parse_completion, {**COMPLETION, "logprobs": -1}),
        (parse_chat, {**CHAT, "logprobs": True, "top_logprobs": -1}),
    ):
        with pytest.raises(InvalidRequest, match="must be from 0 to 20"):
            parse(body)
    assert parse_chat({**CHAT, "top_logprobs": 0}).to_call(Limits()).sampling.top_logprobs == 0
