"""Completions that are refused, that fail with their engine, and that their client leaves."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import pytest

from ampsweep.domain.generation.chunk import Chunk
from ampsweep.errors import EngineFailed
from jobs.execution import CompletionCall
from tests.api.openai.completion import REQUEST, SCALE, pieces
from tests.api.running_server import Server, running_server
from tests.worker.installation import Installation
from worker.completions import PoolCompletions

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    "form", [{"response_format": {"type": "json_object"}}, {"structured_outputs": {"choice": ["a", "b"]}}]
)
async def test_an_engine_without_structured_outputs_refuses_them(shared_server: Server, form: dict[str, Any]) -> None:
    for path, asked in (
        ("/v1/completions", {"prompt": "a"}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "a"}]}),
    ):
        answer = await shared_server.http.post(path, json={"model": "tiny", **asked, **form})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "structured_outputs")
        assert "require the vllm engine, not fake" in answer.json()["error"]["message"]


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions"])
@pytest.mark.parametrize("stream", [False, True])
async def test_more_tokens_than_the_default_limit_allows_are_refused(
    shared_server: Server, path: str, *, stream: bool
) -> None:
    asked: dict[str, Any] = (
        {"prompt": "a"} if path == "/v1/completions" else {"messages": [{"role": "user", "content": "a"}]}
    )
    asked = {"model": "tiny", **asked, "min_tokens": 2000, "stream": stream}
    answer = await shared_server.http.post(path, json=asked)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["code"], error["param"]) == ("invalid_request", "min_tokens")
    assert "lower it, or raise max_tokens" in error["message"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("n", 0),
        ("n", 129),
        ("best_of", 3),
        ("echo", "yes"),
        ("suffix", "end"),
        ("logprobs", 21),
        ("logit_bias.1", {"1": 500}),
        ("logit_bias.12", {"1": 5, "12": 5}),
        ("stop_token_ids.1", [11, 12]),
        ("min_tokens", 6),
        ("presence_penalty", 2.5),
        ("frequency_penalty", -2.5),
        ("top_k", -2),
        ("min_p", 1.5),
        ("repetition_penalty", 0),
        ("temperature", 3),
        ("top_p", 0),
        ("max_tokens", 0),
        ("prompt", {"text": "a"}),
        ("prompt", None),
        ("seed", -1),
        ("stop.0", [""]),
        ("stream", "yes"),
        ("tools", []),
        ("intervention.op", {**SCALE, "op": "twist"}),
        ("intervention.factor", {**SCALE, "factor": "5"}),
        ("intervention.languages", {**SCALE, "languages": []}),
        ("intervention.wat", {**SCALE, "wat": 1}),
        ("intervention.layers.0", {**SCALE, "layers": [-1]}),
        ("intervention.statistic", {**SCALE, "statistic": "mean"}),
        ("intervention.statistic", {**SCALE, "op": "set", "statistic": "p101"}),
        ("intervention.languages.fr", {**SCALE, "languages": {"fr": "2"}}),
    ],
)
async def test_interventions_without_effect_or_meaning_are_refused_by_field(
    shared_server: Server, field: str, value: Any
) -> None:
    for stream in (False, True):
        body = {**REQUEST, "stream": stream, field.partition(".")[0]: value}
        answer = await shared_server.http.post("/v1/completions", json=body)
        assert answer.status_code == 400, answer.text
        assert answer.json()["error"]["param"] == field


@pytest.mark.parametrize("stream", [False, True])
async def test_errors_found_by_the_engine_have_their_status_in_streams_too(
    installation: Installation, stream: bool
) -> None:
    async with running_server(installation) as server:
        await server.done()

        async def refused(**changes: Any) -> tuple[int, dict[str, Any]]:
            answer = await server.http.post("/v1/completions", json={**REQUEST, "stream": stream, **changes})
            return answer.status_code, answer.json()["error"]

        status, error = await refused(model="nope")
        assert (status, error["param"]) == (404, "model")
        assert "known: tiny" in error["message"]
        status, error = await refused(intervention={**SCALE, "languages": ["xx"]})
        assert status == 400
        assert "known: en, fr, tr" in error["message"]
        status, error = await refused(intervention={**SCALE, "layers": [99]})
        assert status == 400
        status, error = await refused(prompt="x" * 10_000)
        assert (status, error["param"]) == (400, "prompt")
        status, error = await refused(intervention=SCALE, neurons="ns_nope")
        assert (status, error["code"]) == (404, "not_found")


async def test_a_dead_engine_is_a_server_error(installation: Installation) -> None:
    async with running_server(installation, fail_on="crash") as server:
        answer = await server.http.post("/v1/completions", json={**REQUEST, "prompt": "crash"})
    assert answer.status_code == 500
    assert answer.json()["error"] == {
        "message": answer.json()["error"]["message"],
        "type": "server_error",
        "param": None,
        "code": "engine_failed",
    }


class Dying:
    async def stream(self, call: CompletionCall) -> AsyncGenerator[Chunk]:
        yield Chunk(
            text="so",
            token_ids=(1,),
            token_texts=("so",),
            text_offsets=(0,),
            logprobs=(-1.0,),
            top_logprobs=((),),
            prompt_tokens=1,
            finish_reason=None,
        )
        raise EngineFailed("it died")


async def test_an_engine_that_dies_in_a_stream_ends_it_with_the_error(installation: Installation) -> None:
    async with running_server(installation) as server:
        server.app.state.services = replace(server.app.state.services, completions=Dying())
        answer = await server.http.post("/v1/completions", json={**REQUEST, "stream": True})
    first, last = pieces(answer.text)
    assert json.loads(first)["choices"][0]["text"] == "so"
    assert json.loads(last)["error"]["code"] == "engine_failed"


class Watched:
    def __init__(self, inner: PoolCompletions) -> None:
        self.inner = inner
        self.begun = asyncio.Event()

    async def stream(self, call: CompletionCall) -> AsyncGenerator[Chunk]:
        async with aclosing(self.inner.stream(call)) as chunks:
            async for chunk in chunks:
                self.begun.set()
                yield chunk


@pytest.mark.parametrize("stream", [False, True])
async def test_generation_is_aborted_when_the_client_disconnects(installation: Installation, stream: bool) -> None:
    async with running_server(installation, seconds_per_step=0.001) as server:
        body = json.dumps({**REQUEST, "max_tokens": 30_000, "stream": stream}).encode()
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "POST",
            "path": "/v1/completions",
            "raw_path": b"/v1/completions",
            "query_string": b"",
            "headers": [(b"content-type", b"application/json"), (b"host", b"localhost")],
            "scheme": "http",
            "server": ("test", 80),
            "client": ("test", 1),
            "root_path": "",
        }
        gone = asyncio.Event()
        messages = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> dict[str, Any]:
            if messages:
                return messages.pop()
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(_message: Any) -> None: ...

        watched = Watched(server.app.state.services.completions)
        server.app.state.services = replace(server.app.state.services, completions=watched)
        answering = asyncio.ensure_future(server.app(scope, receive, send))
        await asyncio.wait_for(watched.begun.wait(), 5)
        assert server.pool._slots[0].load == 1
        gone.set()
        await asyncio.wait_for(answering, 5)
        assert server.pool._slots[0].load == 0, "the engine no longer works on it"
