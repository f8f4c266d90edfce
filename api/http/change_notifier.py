"""Notifies waiting requests that there may be new events. It carries no data; events are read from the store."""

from __future__ import annotations

import asyncio
from contextlib import suppress


class ChangeNotifier:
    """Rung in the event loop after every change; whoever took a ticket before is woken.

    Take a ticket, read the store, then wait with the ticket: what happens between the reading and the waiting is not
    missed.
    """

    def __init__(self) -> None:
        self._rung = asyncio.Event()

    def subscribe(self) -> asyncio.Event:
        """Return what the next ring will set."""
        return self._rung

    def notify(self) -> None:
        """Wake all who wait."""
        self._rung.set()
        self._rung = asyncio.Event()

    @staticmethod
    async def wait(subscribe: asyncio.Event, *, seconds: float) -> None:
        """Wait for the ring of `subscribe`, at most `seconds`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await subscribe.wait()
