"""Neuron sets over REST: import, identification, retrieval and pagination."""

from __future__ import annotations

import asyncio
import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ampsweep.domain.neurons.recording_progress import RecordingProgress
from ampsweep.errors import InvalidRequest
from jobs.neuron_sets.bucket import neuron_sets_at
from jobs.neuron_sets.identifications import LEASE
from tests.api.running_server import Server, running_server
from tests.jobs.cluster import ManualClock
from tests.object_store import give_credentials, object_store
from tests.worker.installation import SPEC, Installation

pytestmark = pytest.mark.anyio

NEURON_FILE = {"model": "tiny", "neurons": {"fr": {"0": [3, 1], "3": [31]}, "tr": {}}}
METHOD: dict[str, Any] = {"model": "tiny", "neurons": SPEC["neurons"]}


async def identified(server: Server, neuron_set_id: str) -> dict[str, Any]:
    """Wait until an identification has ended, and return the neuron set."""
    service: Any = server.app.state.services.neuron_set_service
    await asyncio.wait_for(asyncio.gather(*service._tasks.values()), 30)
    body: dict[str, Any] = (await server.http.get(f"/v1/neuron-sets/{neuron_set_id}")).json()
    return body


async def test_imported_neurons_can_be_read_back(installation: Installation) -> None:
    async with running_server(installation, working=False) as server:
        created = await server.http.post("/v1/neuron-sets", json=NEURON_FILE)
        again = await server.http.post("/v1/neuron-sets", json=NEURON_FILE)
        path = f"/v1/neuron-sets/{created.json()['id']}"
        plain = (await server.http.get(path)).json()
        full = (await server.http.get(path, params={"include": "neurons"})).json()
    assert (created.status_code, again.status_code) == (201, 201)
    assert again.json() == created.json()
    assert (plain["status"], plain["method"], plain["languages"]) == ("completed", "imported", {"fr": 3, "tr": 0})
    assert plain["warnings"] == [], "nobody knows what an imported set compared"
    assert plain["by_layer"] == {"fr": [2, 0, 0, 1], "tr": [0, 0, 0, 0]}
    assert "neurons" not in plain
    assert full["neurons"] == {"fr": {"0": [1, 3], "3": [31]}, "tr": {}}


async def test_neuron_sets_are_listed_by_the_model_they_were_made_for(
    installation: Installation, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text(json.dumps({"num_hidden_layers": 4, "intermediate_size": 32}))
    (other / "model.safetensors").write_bytes(b"other weights")
    offered = {**installation.catalog.models, "other": other, "same": installation.catalog.models["tiny"]}
    installation = replace(installation, catalog=replace(installation.catalog, models=offered))
    async with running_server(installation, working=False) as server:
        ids = {}
        for model in ("tiny", "other"):
            answer = await server.http.post("/v1/neuron-sets", json={**NEURON_FILE, "model": model})
            ids[model] = answer.json()["id"]
        listed = {}
        for model in ("tiny", "same", "other"):
            answer = await server.http.get("/v1/neuron-sets", params={"model": model})
            listed[model] = [neuron_set["id"] for neuron_set in answer.json()["data"]]
        nobody = await server.http.get("/v1/neuron-sets", params={"model": "nobody"})
    assert listed == {"tiny": [ids["tiny"]], "same": [ids["tiny"]], "other": [ids["other"]]}
    assert nobody.status_code == 422
    assert (nobody.json()["error"]["code"], nobody.json()["error"]["param"]) == ("unknown_name", "model")


async def test_imported_neurons_steer(installation: Installation) -> None:
    async with running_server(installation) as server:
        neurons = (await server.http.post("/v1/neuron-sets", json=NEURON_FILE)).json()["id"]
        body = {"model": "tiny", "prompt": "x", "neurons": neurons, "max_tokens": 3, "temperature": 0}
        steering = {"languages": ["fr"], "op": "scale", "factor": 2}
        unsteered = {name: value for name, value in body.items() if name != "neurons"}
        plain = await server.http.post("/v1/completions", json=unsteered)
        steered = await server.http.post("/v1/completions", json={**body, "intervention": steering})
        nobody = await server.http.post("/v1/completions", json={**body, "intervention": {**steering, "patch": "max"}})
        await server.done(neurons={"id": neurons}, interventions={"languages": ["fr"], "op": "scale", "factors": [2.0]})
    assert plain.json()["choices"] != steered.json()["choices"]
    assert nobody.status_code == 400, "it has no patch values"


async def test_neurons_are_identified_in_the_background(installation: Installation) -> None:
    async with running_server(installation) as server:
        response = await server.http.post("/v1/neuron-sets", json=METHOD)
        assert response.status_code == 202
        assert response.json()["status"] == "in_progress"
        assert "lape compares languages, and 3 (en, fr, tr) are few" in response.json()["warnings"][0]
        neuron_set_id = response.json()["id"]
        assert (await server.http.post("/v1/neuron-sets", json=METHOD)).json()["id"] == neuron_set_id
        done = await identified(server, neuron_set_id)
        assert (done["status"], done["method"], set(done["languages"])) == ("completed", "lape", {"en", "fr", "tr"})
        assert done["warnings"] == response.json()["warnings"]
        assert {language: sum(counts) for language, counts in done["by_layer"].items()} == done["languages"]
        again = await server.http.post("/v1/neuron-sets", json=METHOD)
        assert (again.status_code, again.json()["id"]) == (201, neuron_set_id)
        await server.done()
        assert len((await server.http.get("/v1/neuron-sets")).json()["data"]) == 1, "a sweep takes the same set"


async def test_a_failed_identification_has_an_error_and_can_be_requested_again(installation: Installation) -> None:
    async with running_server(installation, fail_on="e") as server:
        neuron_set_id = (await server.http.post("/v1/neuron-sets", json=METHOD)).json()["id"]
        failed = await identified(server, neuron_set_id)
        assert failed["status"] == "failed"
        assert "fails on this text" in failed["error"]
        engine: Any = server.pool._slots[0].session
        engine._engine._fail_on = None
        assert (await server.http.post("/v1/neuron-sets", json=METHOD)).json()["status"] == "in_progress"
        assert (await identified(server, neuron_set_id))["status"] == "completed"


async def test_identifications_are_visible_on_a_second_server(installation: Installation) -> None:
    async with (
        running_server(installation, working=False, fail_on="e") as first,
        running_server(installation, working=False) as second,
    ):
        service: Any = first.app.state.services.neuron_set_service
        find, waiting = service._pool.find_neurons, asyncio.Event()

        async def when_told(model: str, ref: Any) -> None:
            await waiting.wait()
            await find(model, ref)

        service._pool.find_neurons = when_told
        neuron_set_id = (await first.http.post("/v1/neuron-sets", json=METHOD)).json()["id"]
        path = f"/v1/neuron-sets/{neuron_set_id}"
        assert (await second.http.get(path)).json()["status"] == "in_progress"
        progress = RecordingProgress(
            language="fr", languages=2, languages_done=1, tokens=300, total_tokens=400, tokens_per_second=50.0
        )
        installation.identifications.heartbeat(neuron_set_id, progress)
        assert (await second.http.get(path)).json()["progress"]["seconds_left"] == 2.0
        again = await second.http.post("/v1/neuron-sets", json=METHOD)
        assert (again.status_code, again.json()["status"]) == (202, "in_progress")
        assert second.app.state.services.neuron_set_service._tasks == {}, "it is not searched for twice"
        waiting.set()
        failed = await identified(first, neuron_set_id)
        assert failed["status"] == "failed"
        assert (await second.http.get(path)).json() == failed
        await second.http.post("/v1/neuron-sets", json=METHOD)
        assert (await identified(second, neuron_set_id))["status"] == "completed"
        assert (await first.http.get(path)).json()["status"] == "completed"
        assert installation.identifications.get(neuron_set_id) is None


async def test_an_identification_waits_for_an_engine_that_is_starting(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It failed at once, so that whoever asked a server that had just been started had to ask again."""
    monkeypatch.setattr("worker.neuron_set_service.PROGRESS_SECONDS", 0.0)
    async with running_server(installation, working=False) as server:
        pool: Any = server.pool
        engines, looks, looked_twice, answered = pool.engines, iter(range(3)), asyncio.Event(), asyncio.Event()

        def starting() -> list[Any]:
            if next(looks, None) is None:
                looked_twice.set()
                return list(engines())
            return [{**engine, "state": "starting"} for engine in engines()]

        async def find(_model: str, _ref: Any) -> None:
            assert looked_twice.is_set()
            await answered.wait()

        monkeypatch.setattr(pool, "engines", starting)
        monkeypatch.setattr(pool, "find_neurons", find)
        created = (await server.http.post("/v1/neuron-sets", json=METHOD)).json()
        assert (created["status"], created["model"]) == ("in_progress", "tiny")
        answered.set()
        service: Any = server.app.state.services.neuron_set_service
        await asyncio.wait_for(asyncio.gather(*service._tasks.values()), 30)
        assert looked_twice.is_set()
        assert service.identification_status(created["id"]) is None, "it did not fail"


async def test_a_stopping_server_marks_its_identification_as_failed(installation: Installation) -> None:
    async with running_server(installation, working=False) as server:
        service: Any = server.app.state.services.neuron_set_service
        service._pool.find_neurons = lambda _model, _ref: asyncio.Event().wait()
        neuron_set_id = (await server.http.post("/v1/neuron-sets", json=METHOD)).json()["id"]
    async with running_server(installation, working=False) as server:
        after = (await server.http.get(f"/v1/neuron-sets/{neuron_set_id}")).json()
    assert (after["status"], after["error"]) == (
        "failed",
        "the server was stopped during the identification; request it again",
    )


@pytest.mark.processes
async def test_servers_on_one_bucket_tell_of_a_killed_servers_identification(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    give_credentials(monkeypatch)
    clock = ManualClock()
    with object_store() as bucket:
        bucket.bucket("ampsweep")
        first, second = (
            Installation.build(tmp_path / name, clock=clock, published=bucket.address("ampsweep", "home"))
            for name in ("first", "second")
        )
        async with running_server(first, working=False) as killed, running_server(second, working=False) as server:
            service: Any = killed.app.state.services.neuron_set_service
            service._pool.find_neurons = lambda _model, _ref: asyncio.Event().wait()
            neuron_set_id = (await killed.http.post("/v1/neuron-sets", json=METHOD)).json()["id"]
            path = f"/v1/neuron-sets/{neuron_set_id}"
            assert (await server.http.get(path)).json()["status"] == "in_progress"
            clock.time += LEASE + 1  # a killed server sends no heartbeat
            lost = (await server.http.get(path)).json()
            assert lost["status"] == "failed"
            assert "send the request again" in lost["error"]
            assert (await server.http.post("/v1/neuron-sets", json=METHOD)).json()["status"] == "in_progress"
            assert (await identified(server, neuron_set_id))["status"] == "completed"
        restarted = replace(first, neuron_sets=neuron_sets_at(first.neurons))
        async with running_server(restarted, working=False) as server:
            assert (await server.http.get(path)).json()["status"] == "completed"


async def test_too_many_identifications_are_rejected_temporarily(installation: Installation) -> None:
    async with running_server(installation) as server:
        service: Any = server.app.state.services.neuron_set_service
        waiting = asyncio.Event()
        service._pool.find_neurons = lambda _model, _ref: waiting.wait()
        answers = []
        for seed in range(17):
            neurons = {**METHOD["neurons"], "method": "random", "seed": seed}
            answers.append(await server.http.post("/v1/neuron-sets", json={**METHOD, "neurons": neurons}))
        waiting.set()
    assert [answer.status_code for answer in answers] == [202] * 16 + [503]
    assert answers[-1].headers["retry-after"]


async def test_lists_are_paginated(installation: Installation) -> None:
    async with running_server(installation, working=False) as server:
        created = []
        for index in range(5):
            body = {"model": "tiny", "neurons": {"fr": {"0": [index]}}}
            created.append((await server.http.post("/v1/neuron-sets", json=body)).json()["id"])
        listed_ids: list[str] = []
        page: dict[str, Any] = {"has_more": True, "last_id": None}
        while page["has_more"]:
            params = {"limit": 2, **({"after": page["last_id"]} if listed_ids else {})}
            page = (await server.http.get("/v1/neuron-sets", params=params)).json()
            listed_ids += [one["id"] for one in page["data"]]
            assert page["first_id"] == page["data"][0]["id"]
        lost = await server.http.get("/v1/neuron-sets", params={"after": "ns_nope"})
    assert sorted(listed_ids) == sorted(created)
    assert (lost.status_code, lost.json()["error"]["param"]) == (404, "after")


@pytest.mark.parametrize(
    ("path", "value", "param"),
    [
        ("model", "nope", "model"),
        ("neurons", {}, "neurons"),
        ("neurons", [], "neurons"),
        ("neurons.fr", [1], "neurons.fr"),
        ("neurons.fr.0", "1", "neurons.fr.0"),
        ("neurons.fr.0", [32], "neurons.fr.0"),
        ("neurons.fr.0", [-1], "neurons.fr.0.0"),
        ("neurons.fr.0", [1.0], "neurons.fr.0.0"),
        ("neurons.fr.0", [7, *range(32), 9], "neurons.fr.0"),
        ("neurons.fr.4", [1], "neurons.fr.4"),
        ("neurons.fr.x", [1], "neurons.fr"),
        ("neurons.fr.00", [1], "neurons.fr"),
        ("neurons.method", "lape", "neurons"),
        ("wat", 1, "wat"),
    ],
)
async def test_wrong_neurons_are_refused_by_field(shared_server: Server, path: str, value: Any, param: str) -> None:
    body: Any = copy.deepcopy(NEURON_FILE)
    *parents, last = path.split(".")
    inner = body
    for step in parents:
        inner = inner[step]
    inner[last] = value
    refused = await shared_server.http.post("/v1/neuron-sets", json=body)
    listed = (await shared_server.http.get("/v1/neuron-sets")).json()["data"]
    assert refused.status_code == 422, refused.text
    assert refused.json()["error"]["param"].startswith(param)
    assert listed == []


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"languages": ["en", "xx"]}, "neurons.languages"),
        ({"corpus": "nope"}, "neurons.corpus"),
        ({"languages": ["en"]}, "neurons.languages"),
        ({"languages": ["en"], "method": "random"}, "neurons.languages"),
    ],
)
async def test_an_invalid_identification_is_refused_before_it_starts(
    installation: Installation, change: dict[str, Any], param: str
) -> None:
    async with running_server(installation, working=False) as server:
        body = {**METHOD, "neurons": {**METHOD["neurons"], **change}}
        refused = await server.http.post("/v1/neuron-sets", json=body)
    assert refused.status_code == 422
    assert refused.json()["error"]["param"].startswith(param)


async def test_a_set_that_is_being_identified_or_has_failed_is_listed_after_the_others(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    progress = RecordingProgress(
        language="fr", languages=3, languages_done=1, tokens=31, total_tokens=100, tokens_per_second=0.5
    )
    recorded: dict[str, RecordingProgress] = {}

    async def recordings(model: str | None = None) -> dict[str, RecordingProgress]:
        return recorded if model in (None, "tiny") else {}

    async with running_server(installation, working=False) as server:
        monkeypatch.setattr(server.pool, "recordings", recordings)
        completion = {"model": "tiny", "prompt": "x", "intervention": {"languages": ["fr"], "op": "scale", "factor": 2}}
        unknown = await server.http.post("/v1/completions", json=completion)
        assert "identify one" in unknown.json()["error"]["message"]
        recorded["ns_" + "f" * 32] = progress
        installation.identifications.fail("ns_" + "e" * 32, InvalidRequest("the corpus has no sentence"), "tiny")
        installation.identifications.fail("ns_" + "d" * 32, InvalidRequest("of another model"), "other")
        named = {**completion, "neurons": "ns_" + "f" * 32}
        early = [await server.http.post("/v1/completions", json=each) for each in (completion, named)]
        created = (await server.http.post("/v1/neuron-sets", json=NEURON_FILE)).json()["id"]
        of_a_sweep = (await server.http.get(f"/v1/neuron-sets/{'ns_' + 'f' * 32}")).json()
        all_sets = (await server.http.get("/v1/neuron-sets")).json()["data"]
        first = (await server.http.get("/v1/neuron-sets", params={"model": "tiny", "limit": 2})).json()
        rest = (await server.http.get("/v1/neuron-sets", params={"model": "tiny", "after": first["last_id"]})).json()
    for answer, status in zip(early, (400, 404), strict=True):
        assert answer.status_code == status
        assert "is being identified (finding neurons: 31 %, 2 min left); send" in answer.json()["error"]["message"]
    assert [each["status"] for each in all_sets] == ["completed", "failed", "failed", "in_progress"]
    listed = [*first["data"], *rest["data"]]
    assert [each["id"] for each in listed] == [created, "ns_" + "e" * 32, "ns_" + "f" * 32]
    assert (listed[1]["status"], listed[1]["error"]) == ("failed", "the corpus has no sentence")
    assert (listed[2]["model"], listed[2]["progress"]["seconds_left"]) == ("tiny", 138.0)
    assert of_a_sweep == listed[2]
