"""Authentication of every route. The routes are read from the application, so that new ones are tested too."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Iterator

import httpx
import pytest
from fastapi import FastAPI
from starlette.routing import BaseRoute, Route

from ampsweep.proxies import is_loopback
from api.auth.api_keys import KeyScope
from api.auth.authentication import ALWAYS_OPEN
from api.auth.limits import Limits
from tests.api.running_server import Server, running_server
from tests.worker.installation import Installation

pytestmark = pytest.mark.anyio

ADMIN_ONLY = {
    "POST /v1/engines/x/retry",
    "PUT /v1/models/x/default-neuron-set",
    "DELETE /v1/models/x/default-neuron-set",
}
SAFE_METHODS = {"GET", "HEAD"}


def routes(app: FastAPI) -> Iterator[tuple[str, str]]:
    """Yield the method and path of every route, with `x` in place of path parameters."""
    pending: list[BaseRoute] = list(app.routes)
    while pending:
        route = pending.pop()
        pending += getattr(route, "routes", None) or []
        if isinstance(route, Route):
            path = re.sub(r"\{[^}]*\}", "x", route.path)
            yield from ((method, path) for method in sorted(route.methods or ()))


async def request_routes(
    server: Server, headers: dict[str, str], *, only: set[str] | None = None
) -> dict[str, httpx.Response]:
    answers = {}
    for method, path in routes(server.app):
        if path not in ALWAYS_OPEN and (only is None or method in only):
            answers[f"{method} {path}"] = await server.http.request(method, path, headers=headers)
            await asyncio.sleep(
                0
            )  # a request within the process, when it is rejected, does not yield to the event loop
    return answers


async def test_the_list_of_routes_is_complete(installation: Installation) -> None:
    async with running_server(installation, working=False) as server:
        routed = set(routes(server.app))
        document = (await server.http.get("/v1/openapi.json")).json()
    described = {
        (method.upper(), re.sub(r"\{[^}]*\}", "x", path)) for path, does in document["paths"].items() for method in does
    }
    assert described <= routed
    assert ("GET", "/v1/openapi.json") in routed


@pytest.mark.parametrize("exposed", [False, True])
async def test_every_route_rejects_missing_revoked_and_invalid_keys(installation: Installation, exposed: bool) -> None:
    async with running_server(installation, working=False, exposed=exposed) as server:
        key, revoked = server.key(KeyScope.ADMIN)
        server.keys.revoke(key.id, now=1.0)
        token = revoked["Authorization"].removeprefix("Bearer ")
        wrong = [
            {},
            revoked,
            {"Authorization": "Bearer amp_000000000000_" + "A" * 43},
            {"Authorization": "Bearer"},
            {"Authorization": token},
            {"Authorization": f"Basic {token}"},
            {"X-API-Key": token},
            {"Cookie": f"key={token}"},
        ]
        for headers in wrong:
            answers = await request_routes(server, headers)
            assert len(answers) >= 14
            for name, answer in answers.items():
                assert answer.status_code == 401, (name, headers)
                assert answer.headers["www-authenticate"] == "Bearer"
                if not name.startswith("HEAD"):
                    assert answer.json()["error"]["code"] == "invalid_api_key"
                    assert token not in answer.text


async def test_an_exposed_server_without_keys_rejects_all_requests(installation: Installation) -> None:
    async with running_server(installation, working=False, exposed=True) as server:
        for name, answer in (await request_routes(server, {})).items():
            assert answer.status_code == 401, name


async def test_a_key_grants_exactly_its_scopes(installation: Installation) -> None:
    async with running_server(installation, working=False) as server:
        _, reads = server.key(KeyScope.READ)
        _, submits = server.key(KeyScope.SUBMIT)
        _, admin = server.key(KeyScope.ADMIN)
        all_methods = {method for method, _ in routes(server.app)}
        for headers, closed in ((reads, all_methods - SAFE_METHODS), (submits, SAFE_METHODS)):
            refused = await request_routes(server, headers, only=closed)
            assert refused
            for name, answer in refused.items():
                assert answer.status_code == 403, name
                if not name.startswith("HEAD"):
                    assert answer.json()["error"]["code"] == "forbidden"
        for headers, opened in ((reads, SAFE_METHODS), (submits, all_methods - SAFE_METHODS), (admin, all_methods)):
            for name, answer in (await request_routes(server, headers, only=opened)).items():
                if headers is submits and name in ADMIN_ONLY:
                    assert answer.status_code == 403, name
                else:
                    assert answer.status_code not in (401, 403), name


@pytest.mark.parametrize(
    "path", ["/nope", "/v1/nope", "/v1/sweeps/", "//v1/sweeps", "/v1/%2e%2e/healthz", "/healthz/x"]
)
async def test_unknown_paths_need_a_key_too(installation: Installation, path: str) -> None:
    async with running_server(installation, working=False, exposed=True) as server:
        assert (await server.http.get(path)).status_code == 401
        assert (await server.http.post(path)).status_code == 401


async def test_health_needs_no_key(installation: Installation) -> None:
    async with running_server(installation, working=False, exposed=True) as server:
        server.key(KeyScope.READ)
        for path in ALWAYS_OPEN:
            assert (await server.http.get(path)).status_code == 200


async def test_once_a_key_exists_an_open_server_requires_one(installation: Installation) -> None:
    async with running_server(installation, working=False) as server:
        assert (await server.http.get("/v1/sweeps")).status_code == 200
        key, headers = server.key(KeyScope.READ)
        assert (await server.http.get("/v1/sweeps")).status_code == 401
        assert (await server.http.get("/v1/sweeps", headers=headers)).status_code == 200
        server.keys.revoke(key.id, now=1.0)
        assert (await server.http.get("/v1/sweeps", headers=headers)).status_code == 401
        assert (await server.http.get("/v1/sweeps")).status_code == 401


async def test_an_unreadable_key_file_rejects_all_requests(installation: Installation) -> None:
    async with running_server(installation, working=False) as server:
        _, headers = server.key(KeyScope.ADMIN)
        server.keys.path.write_text("{")
        answer = await server.http.get("/v1/sweeps", headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "damaged_file")


@pytest.mark.parametrize(
    ("headers", "opens"),
    [
        ({"Host": "localhost:8700"}, True),
        ({"Host": "127.0.0.1:8700"}, True),
        ({"Host": "[::1]:8700"}, True),
        ({"Host": "localhost:8700", "Origin": "http://localhost:8700"}, True),
        ({"Host": "evil.example"}, False),
        ({"Host": "evil.example:8700"}, False),
        ({"Host": "localhost.evil.example"}, False),
        ({"Host": "169.254.169.254"}, False),
        ({"Host": ""}, False),
        ({"Host": "localhost:8700", "Origin": "https://evil.example"}, False),
        ({"Host": "localhost:8700", "Origin": "http://localhost:3000"}, False),
        ({"Host": "localhost:8700", "Origin": "null"}, False),
    ],
)
async def test_without_keys_requests_of_other_web_pages_are_rejected(
    installation: Installation, headers: dict[str, str], opens: bool
) -> None:
    async with running_server(installation, working=False) as server:
        answer = await server.http.get("/v1/sweeps", headers=headers)
    assert answer.status_code == (200 if opens else 403)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("[::1]", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("::ffff:127.0.0.1", False),
        ("10.0.0.1", False),
        ("server.example", False),
        ("", False),
    ],
)
async def test_only_addresses_of_this_machine_are_loopback(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


async def test_too_many_requests_are_rejected_with_retry_after(installation: Installation) -> None:
    async with running_server(installation, working=False, limits=Limits(requests_a_minute=3)) as server:
        _, ada = server.key(KeyScope.READ)
        _, bob = server.key(KeyScope.READ)
        for _ in range(3):
            assert (await server.http.get("/v1/sweeps", headers=ada)).status_code == 200
        refused = await server.http.get("/v1/sweeps", headers=ada)
        assert (await server.http.get("/v1/sweeps", headers=bob)).status_code == 200
        assert (await server.http.get("/healthz", headers=ada)).status_code == 200
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limited")
    assert refused.headers["retry-after"] == "20"


async def test_neither_keys_nor_prompts_are_logged(
    installation: Installation, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    body = {"model": "tiny", "prompt": "xyzzy is secret", "max_tokens": 2}
    async with running_server(installation, fail_on="plugh") as server:
        _, headers = server.key(KeyScope.ADMIN)
        token = headers["Authorization"].removeprefix("Bearer ")
        for change in (
            {},
            {"prompt": "plugh xyzzy"},
            {"prompt": ["xyzzy"]},
            {"wat": "xyzzy"},
            {"prompt": "xyzzy" * 999},
        ):
            await server.http.post("/v1/completions", json={**body, **change}, headers=headers)
        await server.http.post("/v1/completions", content=b'{"prompt": "xyzzy', headers=headers)
        await server.http.get(f"/v1/sweeps?after={token}", headers={"Authorization": f"Bearer {token}x"})
    for record in caplog.records:
        logged = f"{record.getMessage()} {record.exc_text or ''} {record.args}"
        if not record.name.startswith(("httpx", "httpcore")):  # the client's own
            assert "xyzzy" not in logged
            assert token not in logged
