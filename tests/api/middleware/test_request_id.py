from __future__ import annotations

import pytest

from tests.api.running_server import running_server
from tests.worker.installation import Installation

pytestmark = pytest.mark.anyio


async def test_a_request_id_of_the_client_is_kept(installation: Installation) -> None:
    async with running_server(installation, working=False) as server:
        for path in ("/healthz", "/v1/sweeps", "/v1/sweeps/sweep_nope", "/nope"):
            answer = await server.http.get(path, headers={"X-Request-ID": "run-7:3.a_b"})
            assert answer.headers["x-request-id"] == "run-7:3.a_b"


@pytest.mark.parametrize("name", ["", "a b", "x" * 129, 'a"b', "a\tb", "é"])
async def test_a_request_id_with_unsafe_characters_is_replaced(installation: Installation, name: str) -> None:
    async with running_server(installation, working=False) as server:
        answers = [await server.http.get("/healthz", headers=[(b"X-Request-ID", name.encode())]) for _ in range(2)]
    ids = [answer.headers["x-request-id"] for answer in answers]
    assert all(request_id.startswith("req_") for request_id in ids)
    assert ids[0] != ids[1]


async def test_a_rejection_and_an_unhandled_exception_have_a_request_id(installation: Installation) -> None:
    async with running_server(installation, working=False, exposed=True) as server:
        refused = await server.http.get("/v1/sweeps", headers={"X-Request-ID": "mine"})
    assert (refused.status_code, refused.headers["x-request-id"]) == (401, "mine")
    async with running_server(installation, working=False) as server:
        server.installation.store.list_sweeps = None  # type: ignore[assignment, method-assign]
        broken = await server.http.get("/v1/sweeps", headers={"X-Request-ID": "mine"})
    assert (broken.status_code, broken.headers["x-request-id"]) == (500, "mine")
