"""Server-Sent Events for clients that may stop reading."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from sse_starlette.event import ServerSentEvent
from sse_starlette.sse import EventSourceResponse, SendTimeoutError
from starlette.types import Receive, Scope, Send

from jobs.store.records import Event

log = logging.getLogger(__name__)

PING_SECONDS = 15
"""Seconds between the comments that keep an idle connection alive."""


@dataclass(frozen=True, slots=True)
class EncodedEvent:
    """An event of a sweep, with its data as JSON, which is encoded once for all streams that send it."""

    id: int
    type: str
    data: str

    @classmethod
    def of(cls, event: Event) -> EncodedEvent:
        """Encode an event."""
        data = {"sweep_id": event.sweep_id, "created_at": event.created_at, **event.data}
        return cls(event.id, event.type, json.dumps(data, ensure_ascii=False))


class EventStream(EventSourceResponse):
    """Sends events as they are generated and disconnects a client that reads none for `send_timeout` seconds.

    `events` is closed once all events are sent or the client is gone.
    """

    def __init__(self, events: AsyncGenerator[ServerSentEvent], *, send_timeout: float) -> None:
        super().__init__(events, sep="\n", ping=PING_SECONDS, send_timeout=send_timeout)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events."""
        try:
            await super().__call__(scope, receive, send)
        except SendTimeoutError:
            log.warning("disconnected a client of %s that read nothing for %s s", scope["path"], self.send_timeout)
