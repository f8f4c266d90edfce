"""Every limit has its own error code and a message with the limit."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from api.auth.limits import Limits
from tests.api.running_server import running_server
from tests.worker.installation import SPEC, Installation

pytestmark = pytest.mark.anyio

REQUEST = {"model": "tiny", "prompt": "x" * 50, "max_tokens": 5}
CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "Hi"}], "max_completion_tokens": 5}
OLD_CHAT = {"model": "tiny", "messages": CHAT["messages"], "max_tokens": 5}


@pytest.mark.parametrize(
    ("limits", "path", "body", "status", "code", "param", "says"),
    [
        (Limits(prompt_chars=49), "/v1/completions", REQUEST, 400, "prompt_too_long", "prompt", "most 49"),
        (Limits(max_tokens=4), "/v1/completions", REQUEST, 400, "max_tokens_too_large", "max_tokens", "most 4"),
        (
            Limits(max_tokens=4),
            "/v1/chat/completions",
            CHAT,
            400,
            "max_tokens_too_large",
            "max_completion_tokens",
            "most 4",
        ),
        (Limits(max_tokens=4), "/v1/chat/completions", OLD_CHAT, 400, "max_tokens_too_large", "max_tokens", "most 4"),
        (Limits(cells=9), "/v1/sweeps", SPEC, 422, "too_many_cells", "interventions", "the maximum is 9"),
    ],
)
async def test_a_request_over_a_limit_is_refused_with_its_code(
    installation: Installation,
    limits: Limits,
    path: str,
    body: dict[str, Any],
    status: int,
    code: str,
    param: str,
    says: str,
) -> None:
    async with running_server(installation, working=False, limits=limits) as server:
        refused = await server.http.post(path, json=body)
    assert refused.status_code == status
    error = refused.json()["error"]
    assert (error["code"], error["param"]) == (code, param)
    assert says in error["message"]


async def test_a_request_at_the_limits_is_answered(installation: Installation) -> None:
    async with running_server(
        installation, working=False, limits=Limits(prompt_chars=50, max_tokens=5, cells=10)
    ) as server:
        assert (await server.http.post("/v1/completions", json=REQUEST)).status_code == 200
        assert (await server.http.post("/v1/sweeps", json=SPEC)).status_code == 201


async def test_open_streams_count_until_they_end(installation: Installation) -> None:
    async with running_server(installation, working=False, limits=Limits(streams=2)) as server:
        sweep = (await server.submit())["id"]
        limiter, begun = server.app.state.stream_limiter, asyncio.Semaphore(0)
        acquire = limiter.acquire

        def acquire_and_count(principal_id: str) -> None:
            acquire(principal_id)
            begun.release()

        limiter.acquire = acquire_and_count
        events = [asyncio.ensure_future(server.http.get(f"/v1/sweeps/{sweep}/events")) for _ in range(2)]
        for _ in events:
            await asyncio.wait_for(begun.acquire(), 10)
        for refused in (
            await server.http.get(f"/v1/sweeps/{sweep}/events"),
            await server.http.post("/v1/completions", json=REQUEST),
        ):
            assert (refused.status_code, refused.json()["error"]["code"]) == (429, "too_many_streams")
            assert refused.headers["retry-after"]
        await server.http.post(f"/v1/sweeps/{sweep}/cancel")
        assert [answer.status_code for answer in await asyncio.gather(*events)] == [200, 200]
        assert limiter.total() == 0
        assert (await server.http.post("/v1/completions", json=REQUEST)).status_code == 200
        assert (await server.http.post("/v1/completions", json={**REQUEST, "model": "nope"})).status_code == 404
        assert limiter.total() == 0, "an error ends the count as well"
