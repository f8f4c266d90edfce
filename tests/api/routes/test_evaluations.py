"""Evaluations of sweeps over REST: metrics over stored text, by the server's own models where a judge is needed."""

from __future__ import annotations

import asyncio
import io
from dataclasses import replace
from typing import Any

import pyarrow.parquet as pq
import pytest

from ampsweep.errors import InvalidRequest
from tests.api.running_server import Server, running_server
from tests.worker.installation import Installation

pytestmark = pytest.mark.anyio

GENERATION = {
    "interventions": {"languages": ["fr", "tr"], "op": "scale", "factors": [0.5, 2.0]},
    "tasks": [{"name": "generation", "data": "texts", "languages": ["en"]}],
}
TEXTS = 3
RELEVANCE = {"metrics": ["lfs", "relevance"], "judge": {"model": "tiny"}}


@pytest.fixture
def installation(installation: Installation) -> Installation:
    """A server with texts to go on from."""
    texts = installation.data / "data" / "texts" / "devtest"
    texts.mkdir(parents=True)
    (texts / "en.txt").write_text("".join(f"The text number {number}\n" for number in range(TEXTS)))
    return replace(installation, catalog=replace(installation.catalog, data=installation.data / "data"))


async def evaluated(server: Server, sweep_id: str, body: dict[str, Any]) -> dict[str, Any]:
    """Evaluate a sweep, and return the evaluation when it has ended."""
    created = await server.http.post(f"/v1/sweeps/{sweep_id}/evaluations", json=body)
    assert created.status_code == 202, created.text
    path = f"/v1/sweeps/{sweep_id}/evaluations/{created.json()['id']}"
    async with asyncio.timeout(30):
        while True:
            evaluation: dict[str, Any] = (await server.http.get(path)).json()
            if evaluation["ended_at"] is not None:
                return evaluation
            await asyncio.sleep(0.01)


async def test_metrics_over_the_texts_of_a_sweep_generate_nothing_anew(installation: Installation) -> None:
    async with running_server(installation) as server:
        sweep_id = await server.done(**GENERATION)
        leased = server.dispatcher.dispatcher_stats.leased
        evaluation = await evaluated(server, sweep_id, {"metrics": ["lfs", "script"]})
        path = f"/v1/sweeps/{sweep_id}/evaluations"
        scores = await server.http.get(f"{path}/{evaluation['id']}/scores.parquet")
        listed = (await server.http.get(path)).json()["data"]
        again = await server.http.post(path, json={"metrics": ["lfs", "script"]})
        assert server.dispatcher.dispatcher_stats.leased == leased
    assert (evaluation["status"], evaluation["error"], evaluation["sweep_id"]) == ("completed", None, sweep_id)
    groups = [(group["target_language"], group["factor"], group["n"]) for group in evaluation["groups"]]
    assert {group[2] for group in groups} == {TEXTS}
    assert {group[:2] for group in groups} >= {("fr", 0.5), ("fr", 2.0), ("tr", 0.5), ("tr", 2.0)}
    assert all(group["script"] == 1.0 for group in evaluation["groups"]), "the fake engine writes Latin letters"
    table = pq.read_table(io.BytesIO(scores.content))
    assert table.num_rows == 2 * sum(group["n"] for group in evaluation["groups"])
    assert set(table["metric"].to_pylist()) == {"lfs", "script"}
    assert (again.status_code, again.json()) == (200, evaluation)
    assert listed == [evaluation]


async def test_a_judge_is_a_model_of_the_server_and_rates_no_answer_twice(installation: Installation) -> None:
    async with running_server(installation) as server:
        sweep_id = await server.done(**GENERATION)
        evaluation = await evaluated(server, sweep_id, RELEVANCE)
        generated_tokens = await _generated(server)
        other = await evaluated(server, sweep_id, {**RELEVANCE, "metrics": ["relevance"]})
        assert await _generated(server) == generated_tokens
    values = evaluation["groups"][0]
    assert (values["relevance"], values["relevance_unparsed"]) == (None, values["n"]), "the fake engine writes words"
    assert values["judge"].startswith("tiny ")
    assert values["judge"].endswith(", prompt 1, temperature 0")
    assert [group["relevance_unparsed"] for group in other["groups"]] == [
        group["relevance_unparsed"] for group in evaluation["groups"]
    ]


async def _generated(server: Server) -> float:
    """Return the number of tokens that the server's engine has generated."""
    (metrics,) = await server.pool.metrics()
    assert metrics.stats is not None
    return metrics.stats["generated_tokens"]


async def test_an_evaluation_that_failed_can_be_started_again(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> None:
        raise InvalidRequest("the identifier does not know xx")

    monkeypatch.setattr("worker.evaluation.service.evaluate_sweep", fail)
    async with running_server(installation) as server:
        sweep_id = await server.done(**GENERATION)
        body = {"metrics": ["script"]}
        failed = await evaluated(server, sweep_id, body)
        scores = await server.http.get(f"/v1/sweeps/{sweep_id}/evaluations/{failed['id']}/scores.parquet")
        assert (await evaluated(server, sweep_id, body))["id"] == failed["id"]
    assert failed["status"] == "failed"
    assert failed["error"] == "the identifier does not know xx"
    assert failed["groups"] is None
    assert (scores.status_code, scores.json()["error"]["code"]) == (409, "conflict")


async def test_an_evaluation_outlives_the_server_that_accepted_it(installation: Installation) -> None:
    body = {"metrics": ["script"]}
    async with running_server(installation) as server:
        sweep_id = await server.done(**GENERATION)
        path = f"/v1/sweeps/{sweep_id}/evaluations"
    async with running_server(installation, working=False) as server:
        created = await server.http.post(path, json=body)
        again = await server.http.post(path, json=body)
    assert (created.status_code, again.status_code) == (202, 202)
    assert created.json() == again.json()
    assert (created.json()["status"], created.json()["started_at"]) == ("queued", None)
    async with running_server(installation) as server:
        evaluation = await evaluated(server, sweep_id, body)
    assert (evaluation["id"], evaluation["status"]) == (created.json()["id"], "completed")
    assert evaluation["created_at"] == created.json()["created_at"] < evaluation["started_at"]


async def test_a_wrong_field_is_named(installation: Installation) -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"metrics": []}, "metrics"),
        ({"metrics": ["bleu"]}, "metrics.0"),
        ({"metrics": ["lfs"], "identifier": "/etc/model.bin"}, "identifier"),
        ({"metrics": ["relevance"]}, "judge"),
        ({"metrics": ["lfs"], "judge": {"model": "tiny"}}, "judge"),
        ({"metrics": ["relevance"], "judge": {"model": "nobody"}}, "model"),
        ({"metrics": ["script"], "language": "xx_column"}, "language"),
        ({"metrics": ["script"], "by": ["xx_column"]}, "by"),
    ]
    async with running_server(installation) as server:
        sweep_id = await server.done(**GENERATION)
        for body, param in wrong:
            response = await server.http.post(f"/v1/sweeps/{sweep_id}/evaluations", json=body)
            assert (response.status_code, response.json()["error"]["param"]) == (422, param), body


async def test_a_sweep_without_texts_is_refused_at_once(installation: Installation) -> None:
    async with running_server(installation) as server:
        sweep_id = await server.done()
        path = f"/v1/sweeps/{sweep_id}/evaluations"
        refused = await server.http.post(path, json={"metrics": ["lfs"]})
        listed = (await server.http.get(path)).json()["data"]
    assert (refused.status_code, refused.json()["error"]["param"]) == (422, "sweep_id")
    assert "evaluate a sweep with a task that generates answers" in refused.json()["error"]["message"]
    assert listed == []


async def test_only_an_ended_sweep_can_be_evaluated(installation: Installation) -> None:
    async with running_server(installation, working=False) as server:
        sweep_id = (await server.submit(**GENERATION))["id"]
        path = f"/v1/sweeps/{sweep_id}/evaluations"
        early = await server.http.post(path, json={"metrics": ["lfs"]})
        nobody = await server.http.get("/v1/sweeps/sweep_x/evaluations")
        none = await server.http.get(f"{path}/evaluation_x")
    assert (early.status_code, nobody.status_code, none.status_code) == (409, 404, 404)
    message = f"sweep {sweep_id} is in_progress and has results only once it is completed"
    assert early.json()["error"]["message"] == message, "there is no evaluation of partial results"
