"""The loops that services of leased work share: one polls the store for work, the other one extends leases."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from worker.polling import poll_forever


@dataclass(frozen=True, kw_only=True)
class Running:
    """Leased work in progress. Cancelling `task` aborts the work and returns the lease."""

    task: asyncio.Task[None]


R = TypeVar("R", bound=Running)


class LeasedService(ABC, Generic[R]):
    """Runs leased work from `start` to `stop`. Tests call `poll_once` and `heartbeat` directly."""

    def __init__(self, name: str, *, ttl: float, poll: float) -> None:
        self._name = name  # for log messages
        self._ttl = ttl
        self._poll = poll
        self._work_available = asyncio.Event()
        self._stops = asyncio.Event()
        self._loops: list[asyncio.Task[None]] = []
        self._running: dict[tuple[str, int], R] = {}  # by id and epoch of the lease

    @abstractmethod
    async def poll_once(self) -> None:
        """Lease as much work as this server may still run."""

    @abstractmethod
    async def heartbeat(self) -> None:
        """Extend the leases of the running work; end work whose lease is lost."""

    def start(self) -> None:
        """Start leasing in tasks of the running event loop; return at once."""
        poll = partial(poll_forever, name=self._name, stops=self._stops)
        self._loops = [
            asyncio.create_task(poll(self.poll_once, wake=self._work_available, interval=self._poll)),
            asyncio.create_task(poll(self.heartbeat, wake=self._stops, interval=self._ttl / 6)),
        ]

    async def stop(self) -> None:
        """Stop leasing, abort the running work and return its leases."""
        self._stops.set()
        self._work_available.set()
        await asyncio.gather(*self._loops)
        for running in self._running.values():
            running.task.cancel()
        await self.idle()

    async def idle(self) -> None:
        """Wait until the work now leased has ended."""
        await asyncio.gather(*(running.task for running in self._running.values()), return_exceptions=True)
