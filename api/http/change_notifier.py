"""Notifies waiting requests that there may be new events. It carries no data; events are read from the store."""

from __future__ import annotations

import asyncio
from contextlib import suppress


class ChangeNotifier:
    """Wakes every subscriber in the event loop after each change.

    Subscribe, read the store, then wait on the subscription: a change between reading and waiting is not missed.
    """

    def __init__(self) -> None:
        self._changed = asyncio.Event()

    def subscribe(self) -> asyncio.Event:
        """Return a subscription: the event that the next `notify` sets."""
        return self._changed

    def notify(self) -> None:
        """Wake all subscribers."""
        self._changed.set()
        self._changed = asyncio.Event()

    @staticmethod
    async def wait(subscription: asyncio.Event, *, seconds: float) -> None:
        """Wait until the subscription is notified, for at most `seconds`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await subscription.wait()
