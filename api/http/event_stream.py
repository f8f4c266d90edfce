"""Server-Sent Events to a client that may stop reading."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator

from sse_starlette.event import ServerSentEvent
from sse_starlette.sse import EventSourceResponse, SendTimeoutError
from starlette.types import Receive, Scope, Send

log = logging.getLogger(__name__)

PING_SECONDS = 15


class EventStream(EventSourceResponse):
    """Sends events as they are made; a client that takes none for `send_timeout` seconds is let go.

    `events` is closed when they are all sent, and when nobody waits for them any more.
    """

    def __init__(self, events: AsyncGenerator[ServerSentEvent], *, send_timeout: float) -> None:
        super().__init__(events, sep="\n", ping=PING_SECONDS, send_timeout=send_timeout)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send them."""
        try:
            await super().__call__(scope, receive, send)
        except SendTimeoutError:
            log.warning("a client of %s did not read for %s s and is let go", scope["path"], self.send_timeout)
