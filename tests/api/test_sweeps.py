from __future__ import annotations

import copy
import time
from typing import Any

import pytest

from jobs.clock import SystemClock
from jobs.ids import RandomIds
from jobs.store.sql import SqlStore
from tests.api.served import serving
from tests.worker.house import SPEC, House

pytestmark = pytest.mark.anyio


async def test_a_sweep_goes_in_over_http_and_comes_to_its_end(house: House) -> None:
    async with serving(house) as server:
        sent = await server.submit()
        assert sent["object"] == "sweep"
        assert sent["status"] == "in_progress"
        assert sent["spec"]["tasks"][0]["name"] == "lss"
        await server.ended(sent["id"])
        got = (await server.http.get(f"/v1/sweeps/{sent['id']}")).json()
    assert got["status"] == "completed"
    assert got["request_counts"] == {**sent["request_counts"], "completed": got["request_counts"]["total"]}
    assert got["ended_at"] >= got["created_at"]


async def test_the_same_on_a_database(tmp_path_factory: pytest.TempPathFactory) -> None:
    data = tmp_path_factory.mktemp("server")
    store = SqlStore(f"sqlite:///{data / 'jobs.db'}", SystemClock(), RandomIds())
    async with serving(House.build(data, store=store)) as server:
        sweep_id = await server.done()
        assert (await server.http.get(f"/v1/sweeps/{sweep_id}")).json()["status"] == "completed"
    store.close()


async def test_submission_does_not_wait_for_the_work(house: House) -> None:
    async with serving(house, seconds_per_step=60) as server:
        begun = time.perf_counter()
        await server.submit()
        assert time.perf_counter() - begun < 5


async def test_the_same_idempotency_key_gives_the_same_sweep(house: House) -> None:
    async with serving(house, working=False) as server:
        headers = {"Idempotency-Key": "k1"}
        first = await server.http.post("/v1/sweeps", json=SPEC, headers=headers)
        again = await server.http.post("/v1/sweeps", json=SPEC, headers=headers)
        other = await server.http.post("/v1/sweeps", json={**SPEC, "seed": 1}, headers=headers)
        assert again.status_code == 201
        assert again.json()["id"] == first.json()["id"]
        assert other.status_code == 422
        assert other.json()["error"]["param"] == "Idempotency-Key"
        assert len((await server.http.get("/v1/sweeps")).json()["data"]) == 1


async def test_cells_computed_before_are_reused(house: House) -> None:
    async with serving(house) as server:
        await server.done()
        again = await server.submit(name="again")
        assert again["request_counts"]["reused"] == again["request_counts"]["total"]


async def test_sweeps_are_listed_newest_first_a_page_at_a_time(house: House) -> None:
    async with serving(house, working=False) as server:
        ids = [(await server.submit(seed=seed))["id"] for seed in range(3)]
        first = (await server.http.get("/v1/sweeps", params={"limit": 2})).json()
        assert [sweep["id"] for sweep in first["data"]] == [ids[2], ids[1]]
        assert (first["object"], first["first_id"], first["last_id"], first["has_more"]) == (
            "list",
            ids[2],
            ids[1],
            True,
        )
        rest = (await server.http.get("/v1/sweeps", params={"limit": 2, "after": first["last_id"]})).json()
        assert [sweep["id"] for sweep in rest["data"]] == [ids[0]]
        assert rest["has_more"] is False
        assert (await server.http.get("/v1/sweeps", params={"after": "sweep_nope"})).status_code == 404


async def test_an_empty_list_has_no_ids(house: House) -> None:
    async with serving(house, working=False) as server:
        listed = (await server.http.get("/v1/sweeps")).json()
    assert listed == {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}


async def test_cells_are_listed_in_the_plans_order(house: House) -> None:
    async with serving(house, working=False) as server:
        sweep = await server.submit()
        path = f"/v1/sweeps/{sweep['id']}/cells"
        cells: list[dict[str, Any]] = []
        more, after = True, None
        while more:
            page = (await server.http.get(path, params={"limit": 3, **({"after": after} if after else {})})).json()
            cells += page["data"]
            more, after = page["has_more"], page["last_id"]
    assert len(cells) == sweep["request_counts"]["total"]
    assert cells[0]["intervention"] is None, "the unsteered baseline is always a cell"
    assert cells[0]["status"] == "pending"
    assert cells[1]["intervention"]["op"] == "scale"


async def test_a_sweep_is_cancelled_and_only_once_it_has_not_ended(house: House) -> None:
    async with serving(house, seconds_per_step=60) as server:
        sweep = await server.submit()
        answer = await server.http.post(f"/v1/sweeps/{sweep['id']}/cancel")
        assert answer.status_code == 200
        assert answer.json()["status"] in ("cancelling", "cancelled")
        await server.ended(sweep["id"])
        assert (await server.http.get(f"/v1/sweeps/{sweep['id']}")).json()["status"] == "cancelled"
        again = await server.http.post(f"/v1/sweeps/{sweep['id']}/cancel")
    assert again.status_code == 409
    assert again.json()["error"]["code"] == "conflict"


@pytest.mark.parametrize("path", ["", "/cells", "/events", "/results", "/summary"])
async def test_an_unknown_sweep_is_not_found(house: House, path: str) -> None:
    async with serving(house, working=False) as server:
        answer = await server.http.get(f"/v1/sweeps/sweep_nope{path}")
        assert answer.status_code == 404
        assert answer.json()["error"]["code"] == "not_found"
        assert (await server.http.post("/v1/sweeps/sweep_nope/cancel")).status_code == 404


def _spec(path: str, value: Any) -> dict[str, Any]:
    spec = copy.deepcopy(SPEC)
    *parents, last = path.split(".")
    inner: Any = spec
    for step in parents:
        inner = inner[int(step) if step.isdigit() else step]
    inner[last] = value
    return spec


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("model", "nope", "known: tiny"),
        ("model", 3, "string"),
        ("neurons.method", "guess", "lape"),
        ("neurons.corpus", "nope", "known: atlas"),
        ("interventions.op", "twist", "scale"),
        ("interventions.factors", [], "at least 1"),
        ("interventions.wat", 1, "unknown key"),
        ("wat", 1, "unknown key"),
        ("tasks.0.name", "nope", "include, lss, perplexity"),
        ("seed", -1, "greater"),
    ],
)
async def test_a_bad_spec_is_told_by_its_field(house: House, path: str, value: Any, says: str) -> None:
    async with serving(house, working=False) as server:
        answer = await server.http.post("/v1/sweeps", json=_spec(path, value))
    error = answer.json()["error"]
    assert answer.status_code == 422, answer.text
    assert error["param"] == path
    assert says in error["message"]
    assert error["type"] == "invalid_request_error"


async def test_an_unknown_language_is_told_with_those_known(house: House) -> None:
    async with serving(house, working=False) as server:
        for path in ("interventions.languages", "tasks.0.languages"):
            answer = await server.http.post("/v1/sweeps", json=_spec(path, ["en", "xx"]))
            error = answer.json()["error"]
            assert (answer.status_code, error["code"]) == (422, "unknown_name")
            assert error["param"].startswith(path)
            assert "fr" in error["message"].partition("known: ")[2]


async def test_a_sweep_is_paused_and_resumed(house: House) -> None:
    async with serving(house, working=False) as server:
        path = f"/v1/sweeps/{(await server.submit())['id']}"
        assert (await server.http.post(f"{path}/pause")).json()["status"] == "paused"
        assert (await server.http.get(path)).json()["status"] == "paused"
        assert (await server.http.post(f"{path}/resume")).json()["status"] == "in_progress"
        await server.http.post(f"{path}/cancel")
        refused = await server.http.post(f"{path}/resume")
        assert (refused.status_code, refused.json()["error"]["code"]) == (409, "conflict")


async def test_priority_and_sender_are_kept_with_the_sweep(house: House) -> None:
    async with serving(house, working=False) as server:
        sent = await server.http.post("/v1/sweeps", json=SPEC, params={"priority": 7})
        assert sent.json()["priority"] == 7
        assert house.store.get_sweep(sent.json()["id"]).owner == "local"
        refused = await server.http.post("/v1/sweeps", json=SPEC, params={"priority": 1000})
        assert (refused.status_code, refused.json()["error"]["param"]) == (422, "priority")
