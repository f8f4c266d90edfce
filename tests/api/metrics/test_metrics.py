"""The metrics of a server with a fake engine, and who may read them."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import httpx
import pytest

from ampsweep.errors import AmpsweepError, DamagedFile, Unavailable
from api.auth.api_keys import KeyScope
from api.metrics.engines import _COUNTERS, _GAUGES
from engine.base import EngineStats
from tests.api.running_server import Server, running_server
from tests.api.socket_server import server_on_socket
from tests.metric_samples import Samples, samples
from tests.worker.installation import Installation

pytestmark = pytest.mark.anyio

ENGINE = ("0", "tiny")


async def scrape(server: Server, **headers: str) -> Samples:
    answer = await server.http.get("/metrics", headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return samples(answer.text)


async def test_a_sweep_appears_in_the_metrics_of_queue_dispatcher_and_engine(installation: Installation) -> None:
    async with running_server(installation) as server:
        before = await scrape(server)
        await server.done()
        once = await scrape(server)
        await server.done()  # all its cells are those of the first
        twice = await scrape(server)
    cells = once["ampsweep_queue_cells", ("completed",)]
    assert cells > 0
    assert before["ampsweep_queue_cells", ("completed",)] == 0
    assert once["ampsweep_queue_sweeps", ("completed",)] == 1
    assert once["ampsweep_dispatcher_leases_total", ()] == cells
    assert once["ampsweep_dispatcher_cells_ended_total", ("completed",)] == cells
    assert once["ampsweep_dispatcher_retries_total", ()] == 0
    assert once["ampsweep_dispatcher_samples_total", ()] > 0
    assert once["ampsweep_dispatcher_sweeps_finalized_total", ()] == 1
    assert once["ampsweep_queue_oldest_pending_seconds", ()] == 0
    assert once["ampsweep_engine_prompt_tokens_total", ENGINE] > before["ampsweep_engine_prompt_tokens_total", ENGINE]
    assert once["ampsweep_engine_steps_total", ENGINE] > 0
    assert once["ampsweep_engine_step_requests_total", ENGINE] >= once["ampsweep_engine_steps_total", ENGINE]
    assert once["ampsweep_engine_starts_total", ENGINE] == 1
    assert once["ampsweep_engine_state", (*ENGINE, "ready")] == 1
    assert twice["ampsweep_queue_cells_reused_total", ()] == cells
    assert twice["ampsweep_queue_cells_asked_total", ()] == 2 * cells
    assert twice["ampsweep_dispatcher_leases_total", ()] == cells, "nothing was computed again"


async def test_waiting_cells_and_their_age_are_reported(installation: Installation) -> None:
    async with running_server(installation, working=False) as server:
        await server.submit()
        installation.store.lease_cells("another", models=["tiny"], limit=2, ttl=30)
        metrics = await scrape(server)
    assert metrics["ampsweep_queue_leases", ("another",)] == 2
    assert metrics["ampsweep_queue_cells", ("leased",)] == 2
    assert metrics["ampsweep_queue_cells", ("pending",)] > 0
    assert (
        0 < metrics["ampsweep_queue_unserved_seconds", ()] <= metrics["ampsweep_queue_oldest_pending_seconds", ()] < 60
    )


async def test_a_cell_that_is_tried_again_is_a_retry(installation: Installation) -> None:
    one = {"languages": ["fr"], "op": "scale", "factors": [2.0]}
    async with running_server(installation, fail_on="e") as server:
        await server.done(interventions=one, tasks=[{"name": "lss", "languages": ["en"], "limit": 2}])
        metrics = await scrape(server)
    assert metrics["ampsweep_dispatcher_retries_total", ()] > 0
    assert metrics["ampsweep_queue_cells", ("failed",)] > 0


async def test_requests_are_counted_by_route_and_never_by_path(installation: Installation) -> None:
    async with running_server(installation, working=False) as server:
        _, headers = server.key(KeyScope.READ)
        for path in ("/v1/sweeps/sweep_xyzzy", "/v1/sweeps/sweep_other", "/plugh", "/v1/sweeps?after=sweep_xyzzy"):
            await server.http.get(path, headers=headers)
        await server.http.get("/v1/sweeps/sweep_xyzzy")
        await server.http.request("BREW", "/v1/sweeps", headers=headers)
        metrics = await scrape(server, **headers)
    assert metrics["ampsweep_http_requests_total", ("GET", "/v1/sweeps/{sweep_id}", "404")] == 2
    assert metrics["ampsweep_http_requests_total", ("GET", "none", "404")] == 1
    assert metrics["ampsweep_http_requests_total", ("GET", "none", "401")] == 1
    assert metrics["ampsweep_http_refused_total", ("not_found",)] >= 3
    assert metrics["ampsweep_http_refused_total", ("invalid_api_key",)] == 1
    assert metrics["ampsweep_http_request_duration_seconds_count", ("GET", "/v1/sweeps/{sweep_id}")] == 2
    assert metrics["ampsweep_http_requests_in_flight", ()] == 1, "the one that asks"
    labels_text = " ".join(str(labels) for _, labels in metrics)
    assert "xyzzy" not in labels_text
    assert "plugh" not in labels_text
    assert "BREW" not in labels_text


async def test_streams_under_way_are_counted_and_left_out_of_the_durations(installation: Installation) -> None:
    async with running_server(installation, seconds_per_step=0.01) as server, server_on_socket(server) as url:
        body = {"model": "tiny", "prompt": "a", "max_tokens": 50, "stream": True}
        async with (
            httpx.AsyncClient(base_url=url) as client,
            client.stream("POST", "/v1/completions", json=body) as answer,
        ):
            pieces = answer.aiter_lines()
            await anext(pieces)
            during = await scrape(server)
            async for _ in pieces:
                pass
        after = await scrape(server)
    route = ("POST", "/v1/completions")
    assert (during["ampsweep_engine_streams", ENGINE], during["ampsweep_http_streams", ()]) == (1, 1)
    assert (after["ampsweep_engine_streams", ENGINE], after["ampsweep_http_streams", ()]) == (0, 0)
    assert ("ampsweep_http_request_duration_seconds_count", route) not in after
    assert after["ampsweep_engine_generated_tokens_total", ENGINE] >= 50


async def test_an_unhandled_exception_is_counted_as_status_500(installation: Installation) -> None:
    async with running_server(installation, working=False) as server:
        installation.store.list_sweeps = None  # type: ignore[assignment, method-assign]
        assert (await server.http.get("/v1/sweeps")).status_code == 500
        metrics = await scrape(server)
    assert metrics["ampsweep_http_requests_total", ("GET", "/v1/sweeps", "500")] == 1


@pytest.mark.parametrize("error", [Unavailable("the database is gone"), DamagedFile("the database was overwritten")])
async def test_without_the_database_the_other_metrics_are_reported(
    installation: Installation, error: AmpsweepError
) -> None:
    def refuse() -> Any:
        raise error

    async with running_server(installation, working=False) as server:
        assert (await scrape(server))["ampsweep_store_up", ()] == 1
        installation.store.stats = refuse  # type: ignore[method-assign]
        metrics = await scrape(server)
    assert metrics["ampsweep_store_up", ()] == 0
    assert ("ampsweep_engine_starts_total", ENGINE) in metrics
    assert ("ampsweep_queue_cells", ("pending",)) not in metrics


async def test_metrics_need_a_key_that_may_read(installation: Installation) -> None:
    async with running_server(installation, working=False, exposed=True) as server:
        _, reads = server.key(KeyScope.READ)
        _, submits = server.key(KeyScope.SUBMIT)
        answers = [await server.http.get("/metrics", headers=headers) for headers in ({}, submits, reads)]
        assert [answer.status_code for answer in answers] == [401, 403, 200]
        document = (await server.http.get("/v1/openapi.json", headers=reads)).json()
    assert document["paths"]["/metrics"]["get"]["security"] == [{"apiKey": []}]


def test_every_field_of_the_engine_stats_has_a_metric() -> None:
    assert {field.name for field in fields(EngineStats)} == _COUNTERS.keys() | _GAUGES.keys()
