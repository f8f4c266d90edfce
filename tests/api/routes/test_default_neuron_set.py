"""The default neuron set of a model, which an operator sets and every response names."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ampsweep.telemetry.logs import FIELDS
from api.auth.api_keys import KeyScope
from tests.api.running_server import Server, running_server
from tests.worker.installation import Installation

pytestmark = pytest.mark.anyio

PATH = "/v1/models/tiny/default-neuron-set"
STEERED: dict[str, Any] = {
    "model": "tiny",
    "max_tokens": 3,
    "temperature": 0,
    "intervention": {"languages": ["fr"], "op": "scale", "factor": 2.0},
}
COMPLETION = ("/v1/completions", {**STEERED, "prompt": "Hello"})
CHAT = ("/v1/chat/completions", {**STEERED, "messages": [{"role": "user", "content": "Hello"}]})


async def import_set(server: Server, neuron: int) -> str:
    body = {"model": "tiny", "neurons": {"fr": {"0": [neuron]}}}
    created: str = (await server.http.post("/v1/neuron-sets", json=body)).json()["id"]
    return created


@pytest.mark.parametrize(("path", "body"), [COMPLETION, CHAT])
async def test_the_same_request_never_changes_its_meaning(
    installation: Installation, path: str, body: dict[str, Any]
) -> None:
    async with running_server(installation, working=False) as server:
        first = await import_set(server, 1)
        before = (await server.http.post(path, json=body)).json()
        second = await import_set(server, 2)
        refused = await server.http.post(path, json=body)
        assert refused.status_code == 400
        assert refused.json()["error"]["param"] == "neurons"
        assert all(neuron_set_id in refused.json()["error"]["message"] for neuron_set_id in (first, second))
        await server.http.put(PATH, json={"neuron_set": first})
        await import_set(server, 3)
        after = (await server.http.post(path, json=body)).json()
        named = (await server.http.post(path, json={**body, "neurons": second})).json()
    assert (before["neuron_set"], after["neuron_set"], named["neuron_set"]) == (first, first, second)
    assert before["choices"] == after["choices"] != named["choices"]


@pytest.mark.parametrize(("path", "body"), [COMPLETION, CHAT])
async def test_every_event_of_a_stream_names_the_set(
    installation: Installation, path: str, body: dict[str, Any]
) -> None:
    async with running_server(installation, working=False) as server:
        neurons = await import_set(server, 1)
        streamed = {**body, "stream": True, "stream_options": {"include_usage": True}}
        unsteered = {name: value for name, value in streamed.items() if name != "intervention"}
        for completion, wanted in ((streamed, neurons), (unsteered, None)):
            lines = (await server.http.post(path, json=completion)).text.split("\n")
            events = [line.removeprefix("data: ") for line in lines if line.startswith("data: {")]
            assert len(events) > 3
            assert {json.loads(event)["neuron_set"] for event in events} == {wanted}


async def test_a_default_is_shown_set_and_cleared(installation: Installation) -> None:
    async with running_server(installation, working=False) as server:

        async def default() -> tuple[str | None, str | None]:
            body = (await server.http.get(PATH)).json()
            assert (body["object"], body["model"]) == ("default_neuron_set", "tiny")
            return body["neuron_set"], body["source"]

        assert await default() == (None, None)
        first = await import_set(server, 1)
        assert await default() == (first, "only_set")
        second = await import_set(server, 2)
        assert await default() == (None, None)
        created = await server.http.put(PATH, json={"neuron_set": second})
        assert (created.json()["neuron_set"], await default()) == (second, (second, "operator"))
        cleared = await server.http.delete(PATH)
        assert (cleared.json()["neuron_set"], await default()) == (None, (None, None))
        assert (await server.http.put(PATH, json={"neuron_set": "ns_nope"})).status_code == 404
        assert (await server.http.put(PATH, json={"neurons": first})).json()["error"]["param"] == "neurons"
        assert (await server.http.get("/v1/models/nobody/default-neuron-set")).status_code == 404


async def test_only_an_admin_can_change_the_default(installation: Installation) -> None:
    async with running_server(installation, working=False) as server:
        neurons = await import_set(server, 1)
        _, submits = server.key(KeyScope.READ, KeyScope.SUBMIT)
        _, admin = server.key(KeyScope.ADMIN)
        assert (await server.http.get(PATH, headers=submits)).status_code == 200
        assert (await server.http.put(PATH, json={"neuron_set": neurons}, headers=submits)).status_code == 403
        assert (await server.http.delete(PATH, headers=submits)).status_code == 403
        assert (await server.http.put(PATH, json={"neuron_set": neurons}, headers=admin)).status_code == 200


async def test_the_log_names_the_neuron_set_that_steered(
    installation: Installation, caplog: pytest.LogCaptureFixture
) -> None:
    async with running_server(installation, working=False) as server:
        neurons = await import_set(server, 1)
        with caplog.at_level("INFO"):
            await server.http.post(COMPLETION[0], json=COMPLETION[1])
    (line,) = [record for record in caplog.records if record.name == "worker.completions"]
    assert {name: vars(line).get(name) for name in FIELDS if name in vars(line)} == {
        "model": "tiny",
        "neuron_set": neurons,
    }
