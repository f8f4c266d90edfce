from __future__ import annotations

import asyncio
import copy
import json
import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from api.auth.api_keys import KeyScope
from jobs.clock import SystemClock
from tests.api.running_server import Server, running_server
from tests.jobs.cluster import write_jsonl
from tests.postgres import empty_store
from tests.worker.installation import SPEC, Installation, until

pytestmark = pytest.mark.anyio


async def test_a_sweep_submitted_over_http_runs_to_its_end(installation: Installation) -> None:
    async with running_server(installation) as server:
        sent = await server.submit()
        assert sent["object"] == "sweep"
        assert sent["status"] == "in_progress"
        assert sent["spec"]["tasks"][0]["name"] == "lss"
        await server.ended(sent["id"])
        shown = (await server.http.get(f"/v1/sweeps/{sent['id']}")).json()
    assert shown["status"] == "completed"
    assert shown["request_counts"] == {**sent["request_counts"], "completed": shown["request_counts"]["total"]}
    assert shown["ended_at"] >= shown["created_at"]


async def test_a_sweep_has_the_warnings_of_its_plan(installation: Installation, tmp_path: Path) -> None:
    assert installation.catalog.atlas is not None
    folder = Path(shutil.copytree(installation.catalog.atlas, tmp_path / "atlas"))
    rows = [json.loads(line) for line in (folder / "facts.jsonl").read_text("utf-8").splitlines()]
    del rows[0]["object"]["fr"]
    write_jsonl(folder / "facts.jsonl", rows)
    installation = replace(installation, catalog=replace(installation.catalog, atlas=folder))
    async with running_server(installation, working=False) as server:
        sent = await server.submit()
        shown = (await server.http.get(f"/v1/sweeps/{sent['id']}")).json()
    assert shown["warnings"] == sent["warnings"]
    shared = f"{len(rows) - 1} of {len(rows)} facts are in all of the languages en, fr, tr; only these are used"
    assert f"tasks.0: lss: {shared}" in shown["warnings"]


@pytest.mark.processes
async def test_a_sweep_runs_to_its_end_on_postgresql(tmp_path: Path, postgres_url: str) -> None:
    store = empty_store(postgres_url, SystemClock())
    async with running_server(Installation.build(tmp_path, store=store)) as server:
        sweep_id = await server.done()
        assert (await server.http.get(f"/v1/sweeps/{sweep_id}")).json()["status"] == "completed"
    store.close()


async def test_submission_does_not_wait_for_the_work(installation: Installation) -> None:
    async with running_server(installation, seconds_per_step=60) as server:
        begun = time.perf_counter()
        await server.submit()
        assert time.perf_counter() - begun < 5


async def test_the_same_idempotency_key_gives_the_same_sweep(installation: Installation) -> None:
    async with running_server(installation, working=False) as server:
        headers = {"Idempotency-Key": "k1"}
        first = await server.http.post("/v1/sweeps", json=SPEC, headers=headers)
        again = await server.http.post("/v1/sweeps", json=SPEC, headers=headers)
        other = await server.http.post("/v1/sweeps", json={**SPEC, "seed": 1}, headers=headers)
        assert again.status_code == 201
        assert again.json()["id"] == first.json()["id"]
        assert other.status_code == 422
        assert other.json()["error"]["param"] == "Idempotency-Key"
        assert len((await server.http.get("/v1/sweeps")).json()["data"]) == 1


async def test_a_repeated_key_returns_the_first_response(installation: Installation) -> None:
    async with running_server(installation) as server:
        for key, name in (("k1", "fresh"), ("k2", "all of it computed before")):
            body, headers = {**SPEC, "name": name}, {"Idempotency-Key": key}
            first = await server.http.post("/v1/sweeps", json=body, headers=headers)
            await server.ended(first.json()["id"])
            changes = {"name": "renamed", "tags": ["later"]}
            await server.http.patch(f"/v1/sweeps/{first.json()['id']}", json=changes)
            again = await server.http.post("/v1/sweeps", json=body, headers=headers)
            now = await server.http.get(f"/v1/sweeps/{first.json()['id']}")
            assert (again.status_code, again.content) == (201, first.content)
            assert now.json()["status"] == "completed"


async def test_a_repeated_key_returns_the_first_response_even_if_planning_would_fail(
    installation: Installation,
) -> None:
    async with running_server(installation, working=False) as server:
        headers = {"Idempotency-Key": "k1"}
        first = await server.http.post("/v1/sweeps", json=SPEC, headers=headers)
        (installation.catalog.models["tiny"] / "config.json").unlink()
        new = await server.http.post("/v1/sweeps", json=SPEC)
        assert new.status_code >= 400, "the model's folder is damaged"
        again = await server.http.post("/v1/sweeps", json=SPEC, headers=headers)
        assert (again.status_code, again.content) == (201, first.content)
        other = await server.http.post("/v1/sweeps", json={**SPEC, "seed": 1}, headers=headers)
        assert (other.status_code, other.json()["error"]["param"]) == (422, "Idempotency-Key")


async def test_a_key_whose_first_request_is_running_is_a_conflict(installation: Installation) -> None:
    begun, may_go_on = threading.Event(), threading.Event()
    create = installation.store.create_sweep

    def slow(**arguments: Any) -> Any:
        begun.set()
        assert may_go_on.wait(10)
        return create(**arguments)

    installation.store.create_sweep = slow  # type: ignore[method-assign]
    async with running_server(installation, working=False) as server:
        headers = {"Idempotency-Key": "k1"}
        first = asyncio.ensure_future(server.http.post("/v1/sweeps", json=SPEC, headers=headers))
        await asyncio.to_thread(begun.wait, 10)
        running = await server.http.post("/v1/sweeps", json=SPEC, headers=headers)
        may_go_on.set()
        assert (await first).status_code == 201
        again = await server.http.post("/v1/sweeps", json=SPEC, headers=headers)
    assert (running.status_code, running.json()["error"]["code"]) == (409, "idempotency_running")
    assert running.headers["retry-after"] == "1"
    assert again.content == (await first).content


async def test_idempotency_keys_of_different_callers_are_independent(installation: Installation) -> None:
    async with running_server(installation, working=False) as server:
        ids = []
        for _ in range(2):
            _, headers = server.key(KeyScope.SUBMIT)
            answer = await server.http.post("/v1/sweeps", json=SPEC, headers={**headers, "Idempotency-Key": "k1"})
            ids.append(answer.json()["id"])
    assert ids[0] != ids[1]


async def test_only_the_owner_and_admins_can_change_a_sweep(installation: Installation) -> None:
    async with running_server(installation, working=False) as server:
        key, owner = server.key(KeyScope.SUBMIT)
        _, other = server.key(KeyScope.SUBMIT, KeyScope.READ)
        _, admin = server.key(KeyScope.ADMIN)
        sweep = (await server.http.post("/v1/sweeps", json=SPEC, headers=owner)).json()
        assert sweep["owner"] == key.id
        path = f"/v1/sweeps/{sweep['id']}"
        changes = [("POST", f"{path}/{what}") for what in ("pause", "resume", "cancel")]
        for method, url in [*changes, ("PATCH", path), ("DELETE", path)]:
            refused = await server.http.request(method, url, headers=other, json={"name": "mine"})
            assert (refused.status_code, refused.json()["error"]["code"]) == (403, "forbidden")
        assert (await server.http.get(f"/v1/sweeps/{sweep['id']}", headers=other)).json()["status"] == "in_progress"
        for headers, what in ((owner, "pause"), (admin, "resume"), (owner, "cancel")):
            assert (await server.http.post(f"/v1/sweeps/{sweep['id']}/{what}", headers=headers)).status_code == 200
        _, reader = server.key(KeyScope.READ)
        assert (await server.http.delete(path, headers=reader)).status_code == 403
        renamed = await server.http.patch(path, json={"name": "by an admin"}, headers=admin)
        assert (renamed.status_code, renamed.json()["name"]) == (200, "by an admin")
        assert (await server.http.delete(path, headers=owner)).status_code == 204


async def test_sweeps_are_renamed_tagged_and_listed_by_tag_and_text(installation: Installation) -> None:
    async with running_server(installation, working=False) as server:
        first, second = [(await server.submit(name=name))["id"] for name in ("One", "two")]
        changed = await server.http.patch(f"/v1/sweeps/{first}", json={"tags": ["qwen", "paper"]})
        assert (changed.status_code, changed.json()["tags"], changed.json()["name"]) == (200, ["paper", "qwen"], "One")
        renamed = await server.http.patch(f"/v1/sweeps/{first}", json={"name": "All languages"})
        assert renamed.json()["tags"] == ["paper", "qwen"]
        assert renamed.json()["spec"]["name"] == "One"
        assert (await server.http.get(f"/v1/sweeps/{first}")).json() == renamed.json()

        async def listed(**params: Any) -> list[str]:
            return [sweep["id"] for sweep in (await server.http.get("/v1/sweeps", params=params)).json()["data"]]

        for filters in ({"tag": "paper"}, {"tag": ["paper", "qwen"]}, {"text": "all LANG"}):
            assert await listed(**filters) == [first]
        assert await listed(tag=["paper", "none"]) == []
        assert await listed(text="tiny") == [second, first]
        assert await listed(text="tiny", tag="qwen", after=second) == [first]


@pytest.mark.parametrize(
    ("body", "param", "says"),
    [
        ({}, "name", "is required, or tags"),
        ({"name": ""}, "name", "at least 1"),
        ({"tags": ["a b"]}, "tags.0", "without white space"),
        ({"tags": ["a", "a,b"]}, "tags.1", "commas"),
        ({"tags": ["a", "a"]}, "tags", "twice"),
        ({"tags": ["x" * 65]}, "tags.0", "1 to 64 characters"),
        ({"tags": [str(number) for number in range(33)]}, "tags", "32"),
        ({"spec": {}}, "spec", "unknown key"),
    ],
)
async def test_an_invalid_change_is_rejected_with_its_field(
    shared_server: Server, body: dict[str, Any], param: str, says: str
) -> None:
    path = f"/v1/sweeps/{(await shared_server.submit())['id']}"
    answer = await shared_server.http.patch(path, json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (422, param)
    assert says in answer.json()["error"]["message"]
    assert (await shared_server.http.get(path)).json()["name"] == SPEC["name"]


async def test_a_deleted_sweep_and_its_files_are_gone_and_another_sweep_keeps_its_own(
    installation: Installation,
) -> None:
    def files() -> set[str]:
        return {path.name for path in (installation.data / "results").rglob("*.parquet")}

    async with running_server(installation) as server:
        kept = await server.done(tasks=[{"name": "lss", "languages": ["fr"], "limit": 4}])
        before = files()
        results = (await server.http.get(f"/v1/sweeps/{kept}/results")).content
        gone = await server.done(tasks=[{"name": "lss", "languages": ["fr", "en"], "limit": 4}])
        assert files() > before
        deleted = await server.http.delete(f"/v1/sweeps/{gone}")
        assert (deleted.status_code, deleted.content) == (204, b"")
        for path in ("", "/cells", "/events", "/results", "/summary", "/evaluations"):
            assert (await server.http.get(f"/v1/sweeps/{gone}{path}")).status_code == 404
        assert (await server.http.delete(f"/v1/sweeps/{gone}")).status_code == 404
        assert [each["id"] for each in (await server.http.get("/v1/sweeps")).json()["data"]] == [kept]
        await until(server.notifier, lambda: files() == before)
        assert (await server.http.get(f"/v1/sweeps/{kept}/results")).content == results
        again = await server.submit(tasks=[{"name": "lss", "languages": ["fr", "en"], "limit": 4}])
        counts = again["request_counts"]
        assert 0 < counts["reused"] < counts["total"]
        await server.ended(again["id"])


async def test_files_of_a_sweep_deleted_before_a_kill_are_deleted_at_the_next_start(installation: Installation) -> None:
    async with running_server(installation) as server:
        sweep_id = await server.done()
    installation.store.delete_sweep(sweep_id)  # and no more, as if the server had been killed after its answer
    async with running_server(installation) as server:
        await until(server.notifier, lambda: not list((installation.data / "results").rglob("*.parquet")))


async def test_a_sweep_that_runs_is_not_deleted_and_the_remedy_is_named(installation: Installation) -> None:
    async with running_server(installation, working=False) as server:
        path = f"/v1/sweeps/{(await server.submit())['id']}"
        refused = await server.http.delete(path)
        assert (refused.status_code, refused.json()["error"]["code"]) == (409, "conflict")
        assert "cancel it first" in refused.json()["error"]["message"]
        await server.http.post(f"{path}/cancel")
        assert (await server.http.delete(path)).status_code == 204


async def test_cells_computed_before_are_reused(installation: Installation) -> None:
    async with running_server(installation) as server:
        await server.done()
        again = await server.submit(name="again")
        assert again["request_counts"]["reused"] == again["request_counts"]["total"]


async def test_sweeps_are_listed_newest_first_in_pages(installation: Installation) -> None:
    async with running_server(installation, working=False) as server:
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


async def test_an_empty_list_has_no_ids(installation: Installation) -> None:
    async with running_server(installation, working=False) as server:
        listed = (await server.http.get("/v1/sweeps")).json()
    assert listed == {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}


async def test_cells_are_listed_in_the_plans_order(installation: Installation) -> None:
    async with running_server(installation, working=False) as server:
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


async def test_a_sweep_can_be_cancelled_until_it_has_ended(installation: Installation) -> None:
    async with running_server(installation, seconds_per_step=60) as server:
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
async def test_an_unknown_sweep_is_not_found(installation: Installation, path: str) -> None:
    async with running_server(installation, working=False) as server:
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
        ("tasks.0.name", "nope", "include, language_confusion, lm_eval:NAME, lss, perplexity"),
        ("seed", -1, "greater"),
    ],
)
async def test_an_invalid_spec_is_rejected_with_its_field(
    shared_server: Server, path: str, value: Any, says: str
) -> None:
    answer = await shared_server.http.post("/v1/sweeps", json=_spec(path, value))
    error = answer.json()["error"]
    assert answer.status_code == 422, answer.text
    assert error["param"] == path
    assert says in error["message"]
    assert error["type"] == "invalid_request_error"


async def test_an_unknown_language_is_rejected_with_the_valid_ones(installation: Installation) -> None:
    async with running_server(installation, working=False) as server:
        for path in ("interventions.languages", "tasks.0.languages"):
            answer = await server.http.post("/v1/sweeps", json=_spec(path, ["en", "xx"]))
            error = answer.json()["error"]
            assert (answer.status_code, error["code"]) == (422, "unknown_name")
            assert error["param"].startswith(path)
            assert "fr" in error["message"].partition("known: ")[2]


async def test_a_sweep_is_paused_and_resumed(installation: Installation) -> None:
    async with running_server(installation, working=False) as server:
        path = f"/v1/sweeps/{(await server.submit())['id']}"
        assert (await server.http.post(f"{path}/pause")).json()["status"] == "paused"
        assert (await server.http.get(path)).json()["status"] == "paused"
        assert (await server.http.post(f"{path}/resume")).json()["status"] == "in_progress"
        await server.http.post(f"{path}/cancel")
        refused = await server.http.post(f"{path}/resume")
        assert (refused.status_code, refused.json()["error"]["code"]) == (409, "conflict")


async def test_priority_and_submitter_are_stored_with_the_sweep(installation: Installation) -> None:
    async with running_server(installation, working=False) as server:
        sent = await server.http.post("/v1/sweeps", json=SPEC, params={"priority": 7})
        assert sent.json()["priority"] == 7
        assert installation.store.get_sweep(sent.json()["id"]).owner == "local"
        refused = await server.http.post("/v1/sweeps", json=SPEC, params={"priority": 1000})
        assert (refused.status_code, refused.json()["error"]["param"]) == (422, "priority")
