"""Batches over REST: from a file of requests to the files of answers and errors."""

from __future__ import annotations

import json
from typing import Any

import pytest

from api.auth.api_keys import KeyScope
from api.routes import batches
from jobs.store.sql import batches as store_of_batches
from tests.api.openai.completion import REQUEST, SCALE
from tests.api.routes.test_files import created, upload
from tests.api.running_server import Server, running_server
from tests.worker.installation import Installation

pytestmark = pytest.mark.anyio

URL = "/v1/completions"


def lines(*bodies: dict[str, Any], url: str = URL) -> bytes:
    rows = [
        {"custom_id": f"row-{number}", "method": "POST", "url": url, "body": body} for number, body in enumerate(bodies)
    ]
    return "".join(f"{json.dumps(row)}\n" for row in rows).encode()


async def batch(server: Server, content: bytes, *, endpoint: str = URL, **fields: Any) -> dict[str, Any]:
    file = await created(server, content)
    body = {"input_file_id": file["id"], "endpoint": endpoint, "completion_window": "24h", **fields}
    answer = await server.http.post("/v1/batches", json=body)
    assert answer.status_code == 200, answer.text
    record: dict[str, Any] = answer.json()
    return record


async def run(server: Server, batch_id: str) -> dict[str, Any]:
    """Run a batch to its end."""
    await server.batch_service.poll_once()
    await server.batch_service.idle()
    record: dict[str, Any] = (await server.http.get(f"/v1/batches/{batch_id}")).json()
    return record


async def rows(server: Server, file_id: str | None) -> list[dict[str, Any]]:
    if file_id is None:
        return []
    answer = await server.http.get(f"/v1/files/{file_id}/content")
    return [json.loads(line) for line in answer.text.splitlines()]


async def test_a_request_of_a_batch_has_the_same_answer_as_alone(installation: Installation) -> None:
    async with running_server(installation, working=False) as server:
        alone = (await server.http.post(URL, json=REQUEST)).json()
        queued = await batch(server, lines(REQUEST, {"model": "nope", "prompt": "x"}) + b"{\n", metadata={"run": "1"})
        assert (queued["object"], queued["status"], queued["metadata"]) == ("batch", "validating", {"run": "1"})
        assert queued["expires_at"] - queued["created_at"] == 24 * 3600
        ended = await run(server, queued["id"])
        output, errors = await rows(server, ended["output_file_id"]), await rows(server, ended["error_file_id"])
    assert (ended["status"], ended["request_counts"]) == ("completed", {"total": 3, "completed": 1, "failed": 2})
    assert ended["completed_at"] >= ended["in_progress_at"] >= ended["created_at"]
    (answer,) = output
    assert (answer["custom_id"], answer["response"]["status_code"], answer["error"]) == ("row-0", 200, None)
    assert answer["response"]["body"]["choices"] == alone["choices"]
    assert answer["response"]["body"]["usage"] == alone["usage"]
    unknown, malformed = errors
    assert (unknown["custom_id"], unknown["response"]["status_code"]) == ("row-1", 404)
    assert unknown["response"]["body"]["error"]["param"] == "model"
    assert (malformed["custom_id"], malformed["response"]) == (None, None)
    assert "not valid JSON" in malformed["error"]["message"]


async def test_a_request_of_a_batch_is_steered_by_a_field_or_by_the_name_of_the_model(
    installation: Installation,
) -> None:
    async with running_server(installation) as server:
        await server.done()
        await server.http.post("/v1/interventions", json={"name": "fr", "intervention": SCALE})
        steered = (await server.http.post(URL, json={**REQUEST, "intervention": SCALE})).json()
        bodies = [{**REQUEST, "intervention": SCALE}, {**REQUEST, "model": "tiny+fr"}]
        queued = await batch(server, lines(*bodies))
        while (ended := await run(server, queued["id"]))["status"] != "completed":
            pass  # the server's own loop has leased it, and runs it
        texts = [row["response"]["body"]["choices"] for row in await rows(server, ended["output_file_id"])]
    assert texts == [steered["choices"]] * 2


@pytest.mark.parametrize(
    ("endpoint", "body"),
    [
        ("/v1/chat/completions", {"model": "tiny", "messages": [{"role": "user", "content": "x"}], "max_tokens": 2}),
        ("/v1/responses", {"model": "tiny", "input": "x", "max_output_tokens": 2}),
    ],
)
async def test_chats_and_responses_run_in_batches_too(
    installation: Installation, endpoint: str, body: dict[str, Any]
) -> None:
    async with running_server(installation, working=False) as server:
        alone = (await server.http.post(endpoint, json=body)).json()
        ended = await run(server, (await batch(server, lines(body, url=endpoint), endpoint=endpoint))["id"])
        (row,) = await rows(server, ended["output_file_id"])
    assert row["response"]["body"]["object"] == alone["object"]
    assert row["response"]["body"]["usage"] == alone["usage"]


async def test_batches_are_listed_and_cancelled(installation: Installation) -> None:
    async with running_server(installation, working=False) as server:
        first, second = [await batch(server, lines(REQUEST)) for _ in range(2)]
        listed = (await server.http.get("/v1/batches", params={"limit": 1})).json()
        assert ([record["id"] for record in listed["data"]], listed["has_more"]) == ([second["id"]], True)
        cancelled = await server.http.post(f"/v1/batches/{first['id']}/cancel")
        assert (cancelled.status_code, cancelled.json()["status"]) == (200, "cancelling")
        ended = await run(server, first["id"])
        assert (ended["status"], ended["output_file_id"]) == ("cancelled", None)
        again = await server.http.post(f"/v1/batches/{first['id']}/cancel")
        assert (again.status_code, again.json()["error"]["code"]) == (409, "conflict")
        missing = await server.http.get("/v1/batches/batch_none")
        assert (missing.status_code, missing.json()["error"]["code"]) == (404, "not_found")


async def test_a_wrong_batch_is_refused_by_its_field(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "MAX_ROWS", 2)
    async with running_server(installation, working=False) as server:
        file_id = (await created(server, lines(REQUEST)))["id"]
        blank = (await created(server, b"\n \n"))["id"]
        long = (await created(server, lines(REQUEST, REQUEST, REQUEST)))["id"]
        right = {"input_file_id": file_id, "endpoint": URL, "completion_window": "24h"}
        ended = await run(server, (await batch(server, lines(REQUEST)))["id"])
        for changes, status, param in (
            ({"endpoint": "/v1/embeddings"}, 400, "endpoint"),
            ({"completion_window": "1h"}, 400, "completion_window"),
            ({"input_file_id": "file_none"}, 404, None),
            ({"input_file_id": blank}, 400, "input_file_id"),
            ({"input_file_id": long}, 400, "input_file_id"),
            ({"input_file_id": ended["output_file_id"]}, 400, "input_file_id"),
            ({"metadata": {"a": 1}}, 400, "metadata.a"),
        ):
            answer = await server.http.post("/v1/batches", json={**right, **changes})
            assert (answer.status_code, answer.json()["error"]["param"]) == (status, param), answer.text


async def test_only_its_owner_or_an_admin_cancels_a_batch(installation: Installation) -> None:
    async with running_server(installation, working=False) as server:
        (_, mine), (_, other) = (server.key(KeyScope.READ, KeyScope.SUBMIT) for _ in range(2))
        server.http.headers.update(mine)
        record = await batch(server, lines(REQUEST))
        path = f"/v1/batches/{record['id']}/cancel"
        assert (await server.http.post(path, headers=other)).status_code == 403
        assert (await server.http.post(path)).status_code == 200
        file_in_use = await server.http.delete(f"/v1/files/{record['input_file_id']}")
        assert (file_in_use.status_code, file_in_use.json()["error"]["code"]) == (409, "conflict")


async def test_a_key_with_too_many_unfinished_batches_is_told_so_and_others_are_not(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_of_batches, "MAX_UNFINISHED_PER_OWNER", 1)
    async with running_server(installation, working=False) as server:
        (_, mine), (_, other) = (server.key(KeyScope.READ, KeyScope.SUBMIT) for _ in range(2))
        server.http.headers.update(mine)
        record = await batch(server, lines(REQUEST))
        body = {name: record[name] for name in ("input_file_id", "endpoint", "completion_window")}
        refused = await server.http.post("/v1/batches", json=body)
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "too_many_batches")
        assert int(refused.headers["retry-after"]) > 0
        assert (await server.http.post("/v1/batches", json=body, headers=other)).status_code == 200


async def test_an_upload_of_several_megabytes_runs(installation: Installation) -> None:
    async with running_server(installation, working=False) as server:
        answer = await upload(server, lines(*[{**REQUEST, "user": "x" * 50_000}] * 40))
        assert answer.json()["bytes"] > 2_000_000
        body = {"input_file_id": answer.json()["id"], "endpoint": URL, "completion_window": "24h"}
        queued = (await server.http.post("/v1/batches", json=body)).json()
        ended = await run(server, queued["id"])
    assert ended["request_counts"] == {"total": 40, "completed": 40, "failed": 0}
