"""The events of a sweep as Server-Sent Events, which a client can resume after the last one it received."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Annotated

from fastapi import APIRouter, Header
from sse_starlette.event import ServerSentEvent
from sse_starlette.sse import EventSourceResponse

from ampsweep.errors import NotFound, Unavailable
from api.auth.stream_limit import limit_streams
from api.http.change_notifier import ChangeNotifier
from api.http.event_stream import EventStream
from api.services import Services, ServicesDep
from jobs.store.transitions import SWEEP_ENDED

router = APIRouter(prefix="/sweeps", tags=["sweeps"])


@router.get("/{sweep_id}/events", response_class=EventSourceResponse, dependencies=[limit_streams])
async def stream_events(
    services: ServicesDep, sweep_id: str, last_event_id: Annotated[int, Header(ge=0, lt=2**63)] = 0
) -> EventStream:
    """Stream the events of a sweep as Server-Sent Events until the sweep has ended.

    The stream starts with the first event, or with the one after `Last-Event-ID`. Event ids increase by one, so a
    client that reconnects with the id of the last event it received misses none and receives none twice.
    """
    await asyncio.to_thread(services.store.get_sweep, sweep_id)  # an unknown id is answered by 404, not by a stream
    return EventStream(_follow(services, sweep_id, last_event_id), send_timeout=services.send_timeout)


async def _follow(services: Services, sweep_id: str, after: int) -> AsyncGenerator[ServerSentEvent]:
    while True:
        subscription = services.notifier.subscribe()
        try:
            sweep = await asyncio.to_thread(services.store.get_sweep, sweep_id)
            events = await asyncio.to_thread(services.store.events, sweep_id, after=after)
        except NotFound:  # deleted meanwhile
            return
        except Unavailable:  # the events are still there once the database can be reached again
            await ChangeNotifier.wait(subscription, seconds=services.event_poll)
            continue
        for event in events:
            data = {"sweep_id": sweep_id, "created_at": event.created_at, **event.data}
            yield ServerSentEvent(json.dumps(data, ensure_ascii=False), event=event.type, id=str(event.id), sep="\n")
            after = event.id
        if events:
            continue
        if sweep.state in SWEEP_ENDED:
            return
        await ChangeNotifier.wait(subscription, seconds=services.event_poll)
