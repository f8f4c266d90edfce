"""The log of a whole server: ids in every line, and neither keys nor prompts."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from io import StringIO
from typing import Any

import pytest
import structlog

from ampsweep.telemetry.logs import LogSettings, start_logs
from api.auth.api_keys import KeyScope
from tests.api.auth.test_authentication import routes
from tests.api.running_server import Server, running_server
from tests.worker.installation import SPEC, Installation

pytestmark = pytest.mark.anyio

SECRET = "xyzzy"
SMALL: dict[str, Any] = {
    "interventions": {"languages": ["fr"], "op": "scale", "factors": [2.0]},
    "tasks": [{"name": "lss", "languages": ["en"], "limit": 2}],
}


@pytest.fixture(params=["json", "console"])
def log_stream(request: pytest.FixtureRequest) -> Iterator[StringIO]:
    root = logging.getLogger()
    before = root.handlers, root.level
    stream = StringIO()
    start_logs(LogSettings(format=request.param, level="debug"), stream)
    yield stream
    root.handlers, root.level = before
    logging.captureWarnings(False)
    structlog.contextvars.clear_contextvars()


def lines(stream: StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


async def request_routes(server: Server, headers: dict[str, str], *, every: int) -> None:
    """Request routes, all of them if `every` is 1, with secrets in every field, parameter and header."""
    bodies: list[Any] = [
        {"model": "tiny", "prompt": SECRET, "max_tokens": 2},
        {"model": "tiny", "prompt": [SECRET], "max_tokens": 2},
        {"model": SECRET, "prompt": SECRET},
        {"model": "tiny", "messages": [{"role": "user", "content": SECRET}], "max_tokens": 2},
        {"model": "tiny", "messages": [{"role": SECRET, "content": SECRET}], "stream": True},
        {"model": "tiny", "neurons": {SECRET: {SECRET: [1]}}},
        {"name": SECRET, SECRET: SECRET},
        SECRET,
    ]
    for method, path in list(routes(server.app))[::every]:
        for content in [json.dumps(body).encode() for body in bodies] + [b'{"prompt": "' + SECRET.encode()]:
            await server.http.request(method, path, content=content, headers=headers)
        await server.http.request(method, f"{path}?after={SECRET}&{SECRET}=1", headers=headers)
        await server.http.request(method, f"{path}/{SECRET}", headers={"Authorization": f"Bearer {SECRET}"})


@pytest.mark.parametrize(
    ("log_stream", "every"),
    [("json", 4), ("console", 4), pytest.param("json", 1, marks=pytest.mark.processes)],
    indirect=["log_stream"],
)
async def test_neither_keys_nor_prompts_are_written(
    installation: Installation, log_stream: StringIO, every: int
) -> None:
    async with running_server(installation) as server:
        _, headers = server.key(KeyScope.ADMIN)
        token = headers["Authorization"].removeprefix("Bearer ")
        await request_routes(server, headers, every=every)
    text = log_stream.getvalue()
    assert text.count("request") > 100
    assert SECRET not in text
    assert token not in text


@pytest.mark.parametrize("kind", [ValueError, RuntimeError])
@pytest.mark.parametrize("log_stream", ["json"], indirect=True)
async def test_an_unhandled_exception_with_a_prompt_is_logged_without_its_message(
    installation: Installation, log_stream: StringIO, kind: type[Exception]
) -> None:
    prompts: list[str] = []

    def raise_with_text(text: str, *_more: object) -> None:
        prompts.append(text)
        raise kind(text)

    async with running_server(installation) as server:
        host: Any = server.pool._slots[0].session
        host._engine._check = raise_with_text
        body = {"model": "tiny", "prompt": SECRET, "max_tokens": 2}
        assert (await server.http.post("/v1/completions", json=body)).status_code == 500
        await server.done(**SMALL)
    text = log_stream.getvalue()
    assert len(set(prompts)) > 2
    assert SECRET in prompts
    assert not [prompt for prompt in prompts if prompt in text]
    assert kind.__name__ in text
    assert ", in raise_with_text" in text


async def test_a_failing_cell_is_logged_without_its_prompts(installation: Installation, log_stream: StringIO) -> None:
    prompts: list[str] = []
    async with running_server(installation, fail_on="e") as server:
        host: Any = server.pool._slots[0].session
        check = host._engine._check

        def check_and_record(text: str, *more: Any) -> None:
            prompts.append(text)
            check(text, *more)

        host._engine._check = check_and_record
        await server.done(**SMALL)
    text = log_stream.getvalue()
    assert "failed" in text
    assert prompts
    assert not [prompt for prompt in prompts if len(prompt) > 3 and prompt in text]


@pytest.mark.parametrize("log_stream", ["json"], indirect=True)
async def test_every_line_has_the_ids_of_its_request_sweep_and_cell(
    installation: Installation, log_stream: StringIO
) -> None:
    async with running_server(installation) as server:
        _, headers = server.key(KeyScope.ADMIN)
        sweep_id = (await server.http.post("/v1/sweeps", json=SPEC, headers=headers)).json()["id"]
        await server.ended(sweep_id)
        await server.http.get(f"/v1/sweeps/{sweep_id}", headers={**headers, "X-Request-ID": "mine"})
        await server.http.get("/v1/models", headers={**headers, "X-Request-ID": "another"})
    records = lines(log_stream)
    cells = {cell.id for cell in installation.store.list_cells(sweep_id).data}
    ends = [line for line in records if line["event"] == "the cell ended"]
    assert {line["cell_id"] for line in ends} == cells
    assert all(line["sweep_ids"] == [sweep_id] and line["ending"] == "completed" for line in ends)
    assert all(line["samples"] > 0 and line["seconds"] >= 0 for line in ends)
    (finalized,) = [line for line in records if line["event"] == "the sweep is finalized"]
    assert finalized["sweep_ids"] == [sweep_id]
    (sent,) = [line for line in records if line.get("method") == "POST"]
    assert sent["sweep_ids"] == [sweep_id]
    (mine,) = [line for line in records if line.get("request_id") == "mine"]
    assert (mine["sweep_ids"], mine["route"], mine["status"]) == ([sweep_id], "/v1/sweeps/{sweep_id}", 200)
    (another,) = [line for line in records if line.get("request_id") == "another"]
    assert "sweep_ids" not in another
    assert another["caller"] == mine["caller"]
