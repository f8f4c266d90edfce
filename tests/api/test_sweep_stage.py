"""What a sweep does before its cells are computed, as `GET /v1/sweeps/{id}` says it."""

from __future__ import annotations

import pytest

from ampsweep.domain.neurons.recording_progress import RecordingProgress
from tests.api.running_server import Server, running_server
from tests.worker.installation import Installation

pytestmark = pytest.mark.anyio

RECORDING = RecordingProgress(
    language="fr", languages=2, languages_done=1, tokens=300, total_tokens=400, tokens_per_second=50.0
)


async def shown(server: Server, sweep_id: str) -> dict[str, object]:
    answer: dict[str, object] = (await server.http.get(f"/v1/sweeps/{sweep_id}")).json()
    return answer


async def test_a_sweep_waits_for_an_engine_that_is_starting(installation: Installation) -> None:
    async with running_server(installation, working=False, count=2) as server:
        sweep_id = (await server.submit())["id"]
        assert (await shown(server, sweep_id))["stage"] is None, "an engine is ready"
        for slot in server.pool._slots:
            slot.state, slot.session = "starting", None
        now = server.pool._timing.now()
        server.pool._slots[0].enter_phase("loading the model", now=now - 140)
        server.pool._slots[1].enter_phase("starting an engine process", now=now - 2)
        stage = (await shown(server, sweep_id))["stage"]
        assert isinstance(stage, dict)
        assert stage["name"] == "waiting_for_engine"
        assert stage["text"] == "waiting for an engine: tiny is starting (loading the model, 140 s so far)"
        assert (stage["phase"], round(stage["start_seconds"])) == ("loading the model", 140)
        server.pool._slots[1].state = "ready"
        assert (await shown(server, sweep_id))["stage"] is None


async def test_a_sweep_whose_neurons_are_being_found_says_how_far_that_is(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_server(installation, working=False) as server:
        sweep_id = (await server.submit())["id"]

        async def recording_of(asked: str) -> RecordingProgress | None:
            return RECORDING if asked == sweep_id else None

        monkeypatch.setitem(vars(server.app.state.services), "recording_of", recording_of)
        stage = (await shown(server, sweep_id))["stage"]
        assert stage == {
            "name": "finding_neurons",
            "text": "finding neurons: 75 %, 2 s left",
            "phase": None,
            "start_seconds": None,
            "progress": RECORDING.to_dict(),
        }
        await server.http.post(f"/v1/sweeps/{sweep_id}/cancel")
        assert (await shown(server, sweep_id))["stage"] is None
