"""Named interventions, chosen by the name of a model as any client of OpenAI's API can give it."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.presets import Preset, Presets
from tests.api.running_server import Server, running_server
from tests.worker.installation import Installation

pytestmark = pytest.mark.anyio

SCALE = {"languages": ["fr"], "op": "scale", "factor": 2.0}
SET = {"languages": ["tr"], "op": "set", "factor": 1.0}
PROMPT: dict[str, Any] = {"prompt": "The capital of France is", "max_tokens": 5, "temperature": 0}


async def create(server: Server, name: str, intervention: dict[str, Any], **more: Any) -> dict[str, Any]:
    answer = await server.http.post("/v1/interventions", json={"name": name, "intervention": intervention, **more})
    assert answer.status_code == 201, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def imported(server: Server, neurons: dict[str, Any]) -> str:
    answer = await server.http.post("/v1/neuron-sets", json={"model": "tiny", "neurons": neurons})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


async def text(server: Server, **fields: Any) -> str:
    answer = await server.http.post("/v1/completions", json={**PROMPT, **fields})
    assert answer.status_code == 200, answer.text
    assert answer.json()["model"] == fields["model"]
    return str(answer.json()["choices"][0]["text"])


async def test_a_named_intervention_is_shown_listed_and_deleted(installation: Installation) -> None:
    async with running_server(installation) as server:
        created = await create(server, "fr", SCALE)
        assert (created["object"], created["name"], created["intervention"]["factor"]) == ("intervention", "fr", 2.0)
        assert await create(server, "fr", SCALE) == created
        other = await server.http.post("/v1/interventions", json={"name": "fr", "intervention": SET})
        assert (other.status_code, other.json()["error"]["code"]) == (409, "conflict")
        await create(server, "tr", SET, model="tiny")
        listed = (await server.http.get("/v1/interventions")).json()["data"]
        assert [preset["name"] for preset in listed] == ["fr", "tr"]
        assert (await server.http.get("/v1/interventions/fr")).json() == created
        assert (await server.http.delete("/v1/interventions/fr")).status_code == 204
        for method in ("GET", "DELETE"):
            gone = await server.http.request(method, "/v1/interventions/fr")
            assert (gone.status_code, gone.json()["error"]["code"]) == (404, "not_found")


async def test_the_name_of_a_model_chooses_an_intervention(installation: Installation) -> None:
    async with running_server(installation) as server:
        await server.done()  # identifies the neurons
        await create(server, "fr", SCALE)
        await create(server, "stay-in-turkish", SET, model="tiny")
        plain, steered = await text(server, model="tiny"), await text(server, model="tiny", intervention=SCALE)
        assert await text(server, model="tiny+fr") == steered != plain
        turkish = await text(server, model="tiny", intervention=SET)
        assert turkish not in (plain, steered)
        assert await text(server, model="tiny+stay-in-turkish") == turkish
        assert await text(server, model="stay-in-turkish") == turkish
        messages = [{"role": "user", "content": "Hello"}]
        chats = [
            (await server.http.post("/v1/chat/completions", json={"messages": messages, "temperature": 0, **fields}))
            for fields in ({"model": "tiny+fr"}, {"model": "tiny", "intervention": SCALE}, {"model": "tiny"})
        ]
        contents = [chat.json()["choices"][0]["message"]["content"] for chat in chats]
        assert contents[0] == contents[1] != contents[2]


async def test_a_request_can_name_the_neuron_set_of_a_named_intervention(installation: Installation) -> None:
    messages = [{"role": "user", "content": "Hello"}]
    bodies: list[tuple[str, dict[str, Any]]] = [
        ("completions", PROMPT),
        ("completions", {**PROMPT, "interventions": [None]}),
        ("chat/completions", {"messages": messages}),
        ("responses", {"input": "Hello"}),
    ]
    async with running_server(installation) as server:
        sets = [await imported(server, neurons) for neurons in ({"fr": {"0": [1, 2]}}, {"fr": {"1": [3, 4]}})]
        await create(server, "fr", SCALE)
        await create(server, "own", SCALE, model="tiny", neurons=sets[0])
        for path, body in bodies:
            for model in ("tiny+fr", "tiny+own", "own"):
                answer = await server.http.post(f"/v1/{path}", json={**body, "model": model, "neurons": sets[1]})
                assert (answer.status_code, answer.json().get("neuron_set")) == (200, sets[1]), answer.text
            answer = await server.http.post(f"/v1/{path}", json={**body, "model": "own"})
            assert answer.json()["neuron_set"] == sets[0], "the set of the preset, if the request names none"
            answer = await server.http.post(f"/v1/{path}", json={**body, "model": "tiny", "neurons": sets[1]})
            assert (answer.status_code, answer.json()["error"]["param"]) == (400, "neurons"), "nothing is steered"
        capture = {"texts": ["Hello"], "select": {"layers": [1]}, "neurons": sets[1]}
        statuses = [
            (await server.http.post("/v1/activations", json={**capture, "model": model})).status_code
            for model in ("tiny+fr", "tiny")
        ]
        assert statuses == [200, 422]


async def test_models_are_listed_with_their_interventions(installation: Installation) -> None:
    async with running_server(installation) as server:
        await create(server, "fr", SCALE)
        listed = {model["id"]: model for model in (await server.http.get("/v1/models")).json()["data"]}
        assert listed["tiny+fr"]["parent"] == "tiny"
        assert listed["tiny+fr"]["intervention"]["languages"] == ["fr"]
        assert (await server.http.get("/v1/models/tiny+tr")).status_code == 404
        assert (await server.http.get("/v1/models/fr")).status_code == 404, "it is not the name of a model"


async def test_a_model_is_found_without_reading_all_interventions(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_server(installation) as server:
        for name in ("fr", "other"):
            await create(server, name, SCALE)
        listed = {model["id"]: model for model in (await server.http.get("/v1/models")).json()["data"]}
        read: list[str] = []
        get = Presets.get

        def recorded(presets: Presets, name: str) -> Preset:
            read.append(name)
            return get(presets, name)

        monkeypatch.setattr(Presets, "get", recorded)
        for model, files in [("tiny", []), ("tiny+fr", ["fr"])]:
            read.clear()
            assert (await server.http.get(f"/v1/models/{model}")).json() == listed[model]
            assert read == files


@pytest.mark.parametrize(
    ("fields", "status", "param", "says"),
    [
        ({"model": "tiny+tr"}, 404, "model", "unknown preset 'tr'; known: fr, only"),
        ({"model": "nope+fr"}, 404, "model", "nope"),
        ({"model": "nope"}, 404, "model", "nope"),
        ({"model": "fr"}, 404, "model", "fr"),
        ({"model": "tiny+fr", "intervention": SET}, 400, "intervention", "leave intervention out"),
        ({"model": "tiny+fr", "interventions": [None, SET]}, 400, "interventions.1", "leave interventions out"),
        ({"model": "tiny+fr", "vllm_xargs": {"ampsweep": SET}}, 400, "vllm_xargs.ampsweep", "leave vllm_xargs out"),
        ({"model": "tiny+fr", "vllm_xargs": {"ampsweep": "fr"}}, 400, "vllm_xargs.ampsweep", "leave vllm_xargs out"),
        ({"model": "tiny+fr", "vllm_xargs": {"ampsweep": "nope"}}, 400, "vllm_xargs.ampsweep", "or name 'tiny'"),
        ({"model": "tiny+nope", "vllm_xargs": {"ampsweep": "fr"}}, 404, "model", "unknown preset 'nope'"),
        ({"model": "nope", "vllm_xargs": {"ampsweep": "fr"}}, 404, "model", "unknown model 'nope'"),
    ],
)
async def test_what_a_name_cannot_mean_is_refused(
    fields: dict[str, Any], status: int, param: str, says: str, installation: Installation
) -> None:
    async with running_server(installation) as server:
        await create(server, "fr", SCALE)
        await create(server, "only", SET, model="tiny")
        answer = await server.http.post("/v1/completions", json={**PROMPT, **fields})
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (status, param), answer.text
    assert says in error["message"]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"name": "a+b", "intervention": SCALE}, "name"),
        ({"name": "", "intervention": SCALE}, "name"),
        ({"name": "tiny", "intervention": SCALE}, "name"),
        ({"name": "x", "intervention": {**SCALE, "factor": "2"}}, "intervention.factor"),
        ({"name": "x", "intervention": SCALE, "model": "nope"}, "model"),
        ({"name": "x", "intervention": SCALE, "neurons": "ns_x"}, "neurons.id"),
        ({"name": "x", "intervention": SCALE, "extra": 1}, "extra"),
    ],
)
async def test_a_wrong_preset_is_refused_by_its_field(
    body: dict[str, Any], param: str, installation: Installation
) -> None:
    async with running_server(installation) as server:
        answer = await server.http.post("/v1/interventions", json=body)
        assert answer.status_code in (404, 422), answer.text
        assert answer.json()["error"]["param"] == param
        assert "pattern" not in answer.json()["error"]["message"]
        assert (await server.http.get("/v1/interventions")).json()["data"] == []
