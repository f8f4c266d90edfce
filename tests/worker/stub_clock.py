"""A clock whose time passes only while somebody waits for it."""

from __future__ import annotations

import asyncio

from worker.pool.supervisor import Timing


class StubClock:
    """Seconds since it was made; a sleep lasts no time and moves them on, or never ends once `stopped`."""

    def __init__(self, fraction: float = 0.0) -> None:
        self.now = 0.0
        self.fraction = fraction
        self.stopped = False

    @property
    def timing(self) -> Timing:
        return Timing(now=lambda: self.now, sleep=self.sleep, random=lambda: self.fraction)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)
        if self.stopped:
            await asyncio.Event().wait()
        self.now += seconds
