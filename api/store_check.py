"""Whether the database answers, for health checks, which anybody may request at any rate."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from ampsweep.errors import AmpsweepError
from jobs.store.protocol import Store

CHECK_SECONDS = 2.0
"""Timeout of a check. A database on another machine that is down is noticed by its own timeouts only much later."""


class StoreCheck:
    """Asks the database with a small query. Requests at the same time share one, and so one thread and connection."""

    def __init__(self, store: Store, timeout: float = CHECK_SECONDS) -> None:
        self._store = store
        self._timeout = timeout
        self._running: asyncio.Task[bool] | None = None

    async def answers(self) -> bool:
        """Return whether the database answers in time."""
        if self._running is None:
            self._running = asyncio.create_task(asyncio.to_thread(self._query))
            self._running.add_done_callback(self._forget)
        with suppress(TimeoutError):
            async with asyncio.timeout(self._timeout):
                return await asyncio.shield(self._running)
        return False

    def _query(self) -> bool:
        try:
            self._store.list_sweeps(limit=1)
        except AmpsweepError:
            return False
        return True

    def _forget(self, _task: asyncio.Task[bool]) -> None:
        self._running = None
