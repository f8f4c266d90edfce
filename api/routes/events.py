"""The events of a sweep as Server-Sent Events, which a client can resume after the last one it received."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Header
from sse_starlette.event import ServerSentEvent
from sse_starlette.sse import EventSourceResponse

from ampsweep.errors import NotFound, Unavailable
from api.auth.stream_limit import limit_streams
from api.http.change_notifier import ChangeNotifier
from api.http.event_stream import EncodedEvent, EventStream
from api.services import Services, ServicesDep
from jobs.store.protocol import Store
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
        read = partial(_read, services.store, sweep_id, after)
        try:
            events, ended = await services.event_reads.read(subscription, (sweep_id, after), read)
        except NotFound:  # deleted meanwhile
            return
        except Unavailable:  # the events are still there once the database can be reached again
            await ChangeNotifier.wait(subscription, seconds=services.event_poll)
            continue
        for event in events:
            yield ServerSentEvent(event.data, event=event.type, id=str(event.id), sep="\n")
            after = event.id
        if events:
            continue
        if ended:
            return
        await ChangeNotifier.wait(subscription, seconds=services.event_poll)


def _read(store: Store, sweep_id: str, after: int) -> tuple[list[EncodedEvent], bool]:
    """Return the events of a sweep after an id, and whether the sweep had ended before they were read."""
    ended = store.get_sweep(sweep_id).state in SWEEP_ENDED
    events = store.events(sweep_id, after=after)
    return [EncodedEvent.of(event) for event in events], ended
