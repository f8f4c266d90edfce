from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from ampsweep.client.chat_endpoint import ChatEndpoint
from ampsweep.client.http.retries import Retries
from ampsweep.domain.generation.prompt import ChatMessage
from ampsweep.errors import (
    AmpsweepError,
    Forbidden,
    InvalidRequest,
    NoConnection,
    PromptTooLong,
    RateLimited,
    Unavailable,
)
from tests.ampsweep.client.chat_server import ChatServer, HttpReply, chat_server, completion

AT_ONCE = Retries(times=2, first=0.0)
BUSY = HttpReply(status=503, body="busy")


def ask(url: str, **options: Any) -> str:
    async def reply() -> str:
        async with ChatEndpoint(url, "judge", retries=AT_ONCE, **options) as endpoint:
            return await endpoint.reply([ChatMessage(role="user", content="Is 7 prime?")])

    return asyncio.run(reply())


def answered(*replies: HttpReply) -> tuple[ChatServer, str | AmpsweepError]:
    """Return the server that gave these replies in turn, and what the endpoint made of them."""
    remaining: Iterator[HttpReply] = iter(replies)
    with chat_server(lambda _body: next(remaining)) as server:
        try:
            return server, ask(server.url)
        except AmpsweepError as error:
            return server, error


def test_a_chat_is_asked_greedily() -> None:
    with chat_server(lambda _body: completion("Yes.")) as server:
        assert ask(server.url, api_key="secret", max_tokens=8) == "Yes."
    assert server.requests == [
        {
            "path": "/v1/chat/completions",
            "model": "judge",
            "messages": [{"role": "user", "content": "Is 7 prime?"}],
            "temperature": 0,
            "max_tokens": 8,
        }
    ]
    assert server.headers[0]["Authorization"] == "Bearer secret"


def test_a_reply_without_text_is_empty() -> None:
    assert answered(completion(None))[1] == ""


def test_half_a_character_in_a_reply_is_replaced() -> None:
    assert answered(completion("2 \ud83d"))[1] == "2 ?"


@pytest.mark.parametrize("failure", [BUSY, HttpReply(status=429, body={"error": {"code": "slow_down"}})])
def test_what_may_succeed_later_is_sent_again(failure: HttpReply) -> None:
    server, reply = answered(failure, failure, completion("2"))
    assert (reply, len(server.requests)) == ("2", 3)


def test_retries_end() -> None:
    server, error = answered(*[BUSY] * 4)
    assert isinstance(error, Unavailable)
    assert "503 for model 'judge'" in error.message
    assert len(server.requests) == 1 + AT_ONCE.times


def test_a_wait_that_is_too_long_is_not_waited_for() -> None:
    limited = HttpReply(status=429, body={"error": {"message": "quota"}}, headers={"Retry-After": "3600"})
    server, error = answered(limited)
    assert isinstance(error, RateLimited)
    assert (error.retry_after, len(server.requests)) == (3600, 1)


@pytest.mark.parametrize(
    ("reply", "kind", "message"),
    [
        (HttpReply(status=401, body={"error": "bad key"}), Forbidden, "bad key; set the API key in the environment"),
        (HttpReply(status=404, body={"error": {"message": "no such model"}}), InvalidRequest, "no such model"),
        (HttpReply(status=400, body={"error": {"code": "context_length_exceeded"}}), PromptTooLong, "context_length"),
        (HttpReply(status=400, body={"message": "maximum context length is 8"}), PromptTooLong, "length is 8"),
        (HttpReply(body="<html>"), InvalidRequest, "did not answer as an OpenAI-compatible endpoint does"),
        (HttpReply(body={"choices": []}), InvalidRequest, "did not answer as an OpenAI-compatible endpoint does"),
    ],
)
def test_an_error_is_raised_at_once(reply: HttpReply, kind: type[AmpsweepError], message: str) -> None:
    server, error = answered(reply)
    assert type(error) is kind
    assert message in error.message
    assert len(server.requests) == 1


def test_an_endpoint_that_is_not_there() -> None:
    with chat_server(lambda _body: BUSY) as server:
        url = server.url
    with pytest.raises(NoConnection, match="no connection"):
        ask(url)


def test_a_key_that_cannot_be_sent_names_its_variable() -> None:
    with pytest.raises(InvalidRequest, match="printable ASCII") as error:
        ChatEndpoint("http://127.0.0.1/v1", "judge", api_key="schlüssel", key_variable="KEY")
    assert error.value.param == "KEY"
