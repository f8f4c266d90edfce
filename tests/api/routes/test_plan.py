"""What a sweep would cost, over HTTP."""

from __future__ import annotations

import pytest

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
