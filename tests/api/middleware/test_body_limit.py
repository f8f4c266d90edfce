"""Large bodies and responses do not stall the event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import pytest

from ampsweep.domain.generation.chunk import Chunk
from api.auth.limits import Limits
from api.openai.completions.formatter import CompletionFormatter
from tests.api.running_server import running_server
from tests.loop_stalls import watched_loops
from tests.worker.installation import Installation

pytestmark = pytest.mark.anyio


async def test_a_body_of_megabytes(installation: Installation) -> None:
    async with running_server(installation, working=False, limits=Limits()) as server:
        indices = ",".join(map(str, range(300_000))).encode()
        body = b'{"model": "tiny", "neurons": {"fr": {"0": [' + indices + b"]}}}"
        assert len(body) > 1_900_000
        with watched_loops() as watch:
            answer = await server.http.post("/v1/neuron-sets", content=body)
    assert answer.status_code == 422
    assert watch.stalls == []


async def test_a_neuron_set_of_a_million_neurons(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running_server(installation) as server:
        await server.done()
        (neuron_set,) = (await server.http.get("/v1/neuron-sets")).json()["data"]
        neurons = {"fr": {"0": list(range(1_000_000))}}
        services = server.app.state.services
        monkeypatch.setattr(services.neuron_set_service, "neurons", lambda _: neurons)
        with watched_loops() as watch:
            response = await server.http.get(f"/v1/neuron-sets/{neuron_set['id']}?include=neurons")
    assert watch.stalls == []
    neuron_set_json = await asyncio.to_thread(response.json)
    assert neuron_set_json["neurons"] == neurons
    assert neuron_set_json["by_layer"]["fr"][0] == 1_000_000


async def test_a_completion_with_very_many_tokens(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    response = CompletionFormatter.response

    def slow(self: CompletionFormatter, chunks: Sequence[Chunk]) -> dict[str, Any]:
        computed = time.thread_time()
        while time.thread_time() - computed < 0.3:
            pass
        return response(self, chunks)

    monkeypatch.setattr(CompletionFormatter, "response", slow)
    async with running_server(installation, working=False) as server:
        with watched_loops() as watch:
            answer = await server.http.post("/v1/completions", json={"model": "tiny", "prompt": "x", "max_tokens": 2})
    assert answer.status_code == 200
    assert watch.stalls == []
