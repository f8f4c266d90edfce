"""What a sweep would cost, over HTTP."""

from __future__ import annotations

import asyncio
import threading

import pytest

from api.planning import MAX_THREADS
from api.routes import sweeps
from tests.api.running_server import running_server
from tests.worker.installation import SPEC, Installation

pytestmark = pytest.mark.anyio


async def test_a_plan_has_the_numbers_of_the_sweep_and_stores_nothing(installation: Installation) -> None:
    async with running_server(installation) as server:
        plan = (await server.http.post("/v1/sweeps/plan", json=SPEC)).json()
        assert (await server.http.get("/v1/sweeps")).json()["data"] == []
        sweep = await server.submit()
        await server.ended(sweep["id"])
        again = (await server.http.post("/v1/sweeps/plan", json=SPEC)).json()
    assert (plan["object"], plan["name"], plan["memory_bytes"]) == ("sweep_plan", "first-look", 3 * 2**30)
    assert plan["cells"] == sweep["request_counts"]["total"] == plan["tasks"][0]["cells"]
    assert (plan["reused"], plan["seconds"]) == (0, None)
    assert plan["warnings"] == sweep["warnings"]
    assert (again["reused"], again["requests"], again["seconds"]) == (plan["cells"], 0, 0.0)


async def test_a_wrong_spec_is_refused_by_its_field(installation: Installation) -> None:
    async with running_server(installation, working=False) as server:
        refused = await server.http.post(
            "/v1/sweeps/plan", json={**SPEC, "tasks": [{"name": "lsss", "languages": ["en"]}]}
        )
        sent = await server.http.post("/v1/sweeps", json={**SPEC, "tasks": [{"name": "lsss", "languages": ["en"]}]})
    assert (refused.status_code, refused.json()["error"]["param"]) == (422, "tasks.0.name")
    assert refused.json()["error"] == sent.json()["error"]


async def test_plans_that_wait_for_data_delay_no_other_request_and_end_in_time(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded, begun, loop = threading.Event(), asyncio.Semaphore(0), asyncio.get_running_loop()

    def plan(*_: object, **__: object) -> None:
        loop.call_soon_threadsafe(begun.release)
        loaded.wait(20)

    monkeypatch.setattr(sweeps, "plan", plan)
    async with running_server(installation, working=False) as server:
        server.app.state.services.planning.seconds = 0.3
        submitted = [asyncio.create_task(server.http.post("/v1/sweeps", json=SPEC)) for _ in range(40)]
        async with asyncio.timeout(10):
            for _ in range(MAX_THREADS):
                await begun.acquire()
            assert (await server.http.get("/v1/sweeps")).json()["data"] == []
            answers = await asyncio.gather(*submitted)
        loaded.set()
    assert {(answer.status_code, answer.json()["error"]["code"]) for answer in answers} == {(503, "data_unavailable")}
    assert {answer.headers["retry-after"] for answer in answers} == {"60"}
