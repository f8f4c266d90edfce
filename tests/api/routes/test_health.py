from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from ampsweep.errors import Unavailable, UnsupportedModel
from tests.api.running_server import running_server
from tests.worker.installation import Installation

pytestmark = pytest.mark.anyio


async def test_a_server_with_ready_engines_is_healthy_and_ready(installation: Installation) -> None:
    async with running_server(installation) as server:
        assert (await server.http.get("/healthz")).json() == {"status": "ok"}
        ready = await server.http.get("/readyz")
    assert ready.status_code == 200
    assert (ready.json()["database"], ready.json()["missing"], ready.json()["unsupervised"]) == ("ready", [], [])
    (engine,) = ready.json()["engines"]
    assert engine.pop("start_seconds") >= 0
    assert [engine] == [
        {
            "model": "tiny",
            "engine": "fake",
            "index": 0,
            "state": "ready",
            "phase": None,
            "error": None,
            "failures": 0,
            "supervised": True,
        }
    ]


async def test_a_model_without_an_engine_makes_the_server_unready(installation: Installation) -> None:
    async with running_server(installation) as server:
        slot = server.pool._slots[0]
        slot.state, slot.error = "failed", UnsupportedModel("no MLP that can be steered")
        ready = await server.http.get("/readyz")
        assert (await server.http.get("/healthz")).status_code == 200
    assert ready.status_code == 503
    assert ready.json()["engines"][0]["error"] == "no MLP that can be steered"


async def test_an_engine_without_a_supervisor_makes_the_server_unready(installation: Installation) -> None:
    async with running_server(installation, count=2) as server:
        (task, _) = [supervisor._task for supervisor in server.pool._supervisors]
        assert task is not None
        task.cancel()
        await asyncio.wait([task])
        ready = await server.http.get("/readyz")
        assert (await server.http.get("/healthz")).status_code == 200
        assert ready.status_code == 503
        assert (ready.json()["missing"], ready.json()["unsupervised"]) == ([], ["tiny"])
        assert (await server.http.post("/v1/engines/tiny/retry")).status_code == 202
        await server.pool.ready()
        assert (await server.http.get("/readyz")).status_code == 200


async def test_a_database_that_does_not_answer_makes_the_server_unready(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: object) -> Any:
        raise Unavailable("the database is temporarily unavailable: connection refused")

    async with running_server(installation, working=False) as server:
        with monkeypatch.context() as outage:
            outage.setattr(installation.store, "list_sweeps", refuse)
            ready = await server.http.get("/readyz")
            assert (await server.http.get("/healthz")).status_code == 200, "a restart would not help"
        assert ready.status_code == 503
        assert (ready.json()["status"], ready.json()["database"]) == ("unavailable", "unavailable")
        assert (ready.json()["missing"], [engine["state"] for engine in ready.json()["engines"]]) == ([], ["ready"])
        assert "refused" not in ready.text, "nothing about the database without a key"
        assert (await server.http.get("/readyz")).status_code == 200


async def test_models_are_listed_with_the_warnings_of_the_server(installation: Installation) -> None:
    warning = "vLLM 0.99.0 was never tested with Ampsweep"
    warned = replace(installation, catalog=replace(installation.catalog, warnings=(warning,)))
    async with running_server(warned) as server:
        for path in ("/v1/models", "/v1/models/tiny"):
            answer = (await server.http.get(path)).json()
            assert answer.get("data", [answer])[0]["warnings"] == [warning]


async def test_models_and_neuron_sets_are_listed(installation: Installation) -> None:
    async with running_server(installation) as server:
        models = (await server.http.get("/v1/models")).json()
        assert [(model["id"], model["object"]) for model in models["data"]] == [("tiny", "model")]
        assert (await server.http.get("/v1/models/tiny")).json() == models["data"][0]
        assert (await server.http.get("/v1/neuron-sets")).json()["data"] == []
        await server.done()
        (listed,) = (await server.http.get("/v1/neuron-sets")).json()["data"]
        shown = (await server.http.get(f"/v1/neuron-sets/{listed['id']}")).json()
        assert {key: value for key, value in shown.items() if key != "by_layer"} == listed
    assert set(listed["languages"]) == {"en", "fr", "tr"}
    assert (listed["object"], listed["method"], listed["corpus"]) == ("neuron_set", "lape", "atlas")
