"""Engines over REST: their state, and retrying one that has failed."""

from __future__ import annotations

import logging

import pytest

from api.auth.api_keys import KeyScope
from api.http.change_notifier import ChangeNotifier
from tests.api.running_server import running_server
from tests.worker.installation import Installation, until

pytestmark = pytest.mark.anyio


async def test_a_failed_engine_is_retried_without_a_restart_of_the_server(installation: Installation) -> None:
    model = installation.catalog.models["tiny"] / "config.json"
    whole = model.read_bytes()
    async with running_server(installation) as server:
        notifier = ChangeNotifier()
        server.pool.watch(notifier.notify)
        host = server.pool._slots[0].session
        assert host is not None
        model.unlink()  # so that no start succeeds
        await host.close()
        await until(notifier, lambda: server.pool._slots[0].state == "failed")
        (failed,) = (await server.http.get("/v1/engines")).json()["data"]
        assert (failed["id"], failed["object"], failed["state"]) == ("tiny:0", "engine", "failed")
        assert failed["error"]
        assert (await server.http.get("/readyz")).status_code == 503
        model.write_bytes(whole)
        answer = await server.http.post("/v1/engines/tiny/retry")
        assert answer.status_code == 202
        assert [(engine["id"], engine["state"]) for engine in answer.json()["data"]] == [("tiny:0", "starting")]
        await until(notifier, lambda: server.pool._slots[0].state == "ready")
        assert (await server.http.get("/readyz")).status_code == 200
        sweep_id = await server.done()
        assert (await server.http.get(f"/v1/sweeps/{sweep_id}")).json()["request_counts"]["failed"] == 0


async def test_ready_engines_and_unknown_models_cannot_be_retried(installation: Installation) -> None:
    async with running_server(installation) as server:
        ready = await server.http.post("/v1/engines/tiny/retry")
        assert (ready.status_code, ready.json()["error"]["code"]) == (409, "conflict")
        unknown = await server.http.post("/v1/engines/org/nope/retry")
        assert (unknown.status_code, unknown.json()["error"]["param"]) == (404, "model")


async def test_only_an_admin_can_retry_engines(installation: Installation) -> None:
    async with running_server(installation) as server:
        _, submitter = server.key(KeyScope.READ, KeyScope.SUBMIT)
        _, admin = server.key(KeyScope.ADMIN)
        refused = await server.http.post("/v1/engines/tiny/retry", headers=submitter)
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "forbidden")
        assert (await server.http.get("/v1/engines", headers=submitter)).status_code == 200
        assert (await server.http.post("/v1/engines/tiny/retry", headers=admin)).status_code == 409


async def test_a_completion_while_the_engine_starts_is_one_line_in_the_log(
    installation: Installation, caplog: pytest.LogCaptureFixture
) -> None:
    async with running_server(installation) as server:
        server.pool._slots[0].session = None
        with caplog.at_level(logging.INFO, logger="api"):
            answer = await server.http.post("/v1/completions", json={"model": "tiny", "prompt": "Hello"})
    assert answer.status_code == 503
    (line,) = [record for record in caplog.records if "starting" in record.getMessage()]
    assert (line.levelname, line.exc_info) == ("WARNING", None)
