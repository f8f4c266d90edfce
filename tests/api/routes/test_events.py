from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest

from ampsweep.errors import Unavailable
from api.routes.events import _follow
from api.services import Services
from tests.api.running_server import Server, running_server
from tests.worker.installation import Installation

pytestmark = pytest.mark.anyio


def read(text: str) -> list[dict[str, Any]]:
    blocks = [block for block in text.split("\n\n") if block.strip() and not block.startswith(":")]
    return [dict(line.split(": ", 1) for line in block.split("\n")) for block in blocks]


async def events(server: Server, sweep_id: str, **headers: str) -> list[dict[str, Any]]:
    answer = await server.http.get(f"/v1/sweeps/{sweep_id}/events", headers=headers)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    return read(answer.text)


async def test_a_stream_has_every_event_once_and_ends_with_the_sweep(installation: Installation) -> None:
    async with running_server(installation) as server:
        sweep = await server.submit()
        received = await events(server, sweep["id"])
    assert [int(event["id"]) for event in received] == list(range(1, len(received) + 1))
    assert received[0]["event"] == "sweep.created"
    assert received[-1]["event"] == "sweep.completed"
    assert sum(event["event"] == "cell.completed" for event in received) == sweep["request_counts"]["total"]
    last = json.loads(received[-1]["data"])
    assert last["status"] == "completed"
    assert last["request_counts"]["completed"] == sweep["request_counts"]["total"]


async def test_a_stream_resumes_after_the_last_event_id(installation: Installation) -> None:
    async with running_server(installation) as server:
        sweep_id = await server.done()
        whole = await events(server, sweep_id)
        assert await events(server, sweep_id, **{"Last-Event-ID": "3"}) == whole[3:]
        assert await events(server, sweep_id, **{"Last-Event-ID": str(len(whole))}) == []


@pytest.mark.parametrize("bad", ["x", "-1", "1.5", "99999999999999999999999999x"])
async def test_a_last_event_id_that_is_not_a_number_is_refused(installation: Installation, bad: str) -> None:
    async with running_server(installation, working=False) as server:
        sweep = await server.submit()
        answer = await server.http.get(f"/v1/sweeps/{sweep['id']}/events", headers={"Last-Event-ID": bad})
    assert answer.status_code == 422
    assert answer.json()["error"]["param"] == "last-event-id"


async def test_events_are_sent_on_notification_and_not_at_the_next_poll(installation: Installation) -> None:
    async with running_server(installation, working=False) as server:
        sweep = await server.submit()
        services: Services = server.app.state.services
        stream = _follow(services, sweep["id"], 0)
        assert (await anext(stream)).event == "sweep.created"
        waiting = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        await server.http.post(f"/v1/sweeps/{sweep['id']}/cancel")
        assert (await asyncio.wait_for(waiting, 5)).event == "sweep.cancelling"
        await stream.aclose()


async def test_streams_that_wait_for_the_same_events_read_them_once(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_server(installation, working=False) as server:
        sweep = await server.submit()
        services: Services = server.app.state.services
        streams = [_follow(services, sweep["id"], 1) for _ in range(100)]
        waiting = [asyncio.ensure_future(anext(stream)) for stream in streams]
        await asyncio.sleep(0.1)
        reads = 0
        read_events = services.store.events

        def counted(*args: Any, **options: Any) -> Any:
            nonlocal reads
            reads += 1
            return read_events(*args, **options)

        monkeypatch.setattr(services.store, "events", counted)
        await server.http.post(f"/v1/sweeps/{sweep['id']}/pause")
        received = await asyncio.wait_for(asyncio.gather(*waiting), 5)
        assert {event.event for event in received} == {"sweep.paused"}
        assert reads <= 3, "one read, and one for streams that the loop woke after it"
        for stream in streams:
            await stream.aclose()


async def test_a_stream_outlives_an_outage_of_the_database(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_server(installation, working=False) as server:
        sweep = await server.submit()
        services = replace(server.app.state.services, event_poll=0.01)
        read_events = services.store.events
        outages = [Unavailable("the database is temporarily unavailable")]

        def events_after_an_outage(*args: Any, **options: Any) -> Any:
            if outages:
                raise outages.pop()
            return read_events(*args, **options)

        monkeypatch.setattr(services.store, "events", events_after_an_outage)
        stream = _follow(services, sweep["id"], 0)
        assert (await asyncio.wait_for(anext(stream), 5)).event == "sweep.created"
        assert not outages
        await stream.aclose()


async def test_a_stream_ends_when_its_sweep_is_deleted(installation: Installation) -> None:
    async with running_server(installation) as server:
        sweep_id = await server.done()
        services = server.app.state.services
        stream = _follow(services, sweep_id, 0)
        assert (await anext(stream)).event == "sweep.created"
        (await server.http.delete(f"/v1/sweeps/{sweep_id}")).raise_for_status()
        assert [event async for event in stream][-1].event == "sweep.completed"
        assert [event async for event in _follow(services, sweep_id, 0)] == []
