"""What services of leased work share: the loops that poll the store and extend leases, and how work ends."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from ampsweep.errors import AmpsweepError, Unavailable
from ampsweep.out_of_threads import named_thread_failures
from worker.polling import poll_forever

log = logging.getLogger(__name__)

RETRY_SECONDS = 10.0
"""Delay in seconds before work is leased again after its engine, storage or database was not available."""


class Lease(Protocol):
    """The right to do some work until the lease expires."""

    @property
    def key(self) -> tuple[str, int]:
        """Id of the work and epoch, which identify the lease."""
        ...


L = TypeVar("L", bound=Lease)
L_contra = TypeVar("L_contra", bound=Lease, contravariant=True)


class LeasedRecords(Protocol[L_contra]):
    """The records of leased work in the store. A late write, under a lease that is lost, changes nothing."""

    def release(self, lease: L_contra, *, error: str | None = None, delay: float = 0.0) -> object:
        """Return a lease, so that the work can be leased again after `delay` seconds; record why in `error`."""
        ...

    def fail(self, lease: L_contra, error: str) -> object:
        """Fail the work of a lease."""
        ...


@dataclass(frozen=True, kw_only=True)
class Running(Generic[L]):
    """Leased work in progress. Cancelling `task` aborts the work and returns the lease."""

    lease: L
    task: asyncio.Task[None]


R = TypeVar("R", bound=Running[Any])


class LeasedService(ABC, Generic[L, R]):
    """Runs leased work from `start` to `stop`. Tests call `poll_once` and `heartbeat` directly."""

    def __init__(self, what: str, records: LeasedRecords[L], *, ttl: float, poll: float) -> None:
        self._what = what  # for messages
        self._records = records
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
        poll = partial(poll_forever, name=f"the {self._what} service", stops=self._stops)
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

    async def _run(self, lease: L, work: Callable[[], Awaitable[None]]) -> None:
        """Do leased work and record how it ends; heartbeats extend its lease meanwhile."""
        try:
            with named_thread_failures(f"for the {self._what}", Unavailable):
                await work()
        except asyncio.CancelledError:
            await self._record(partial(self._records.release, lease))
            raise
        except (OSError, Unavailable) as error:
            log.warning("%s %s cannot continue now; retrying later: %s", self._what, lease.key[0], error)
            await self._record(partial(self._records.release, lease, error=str(error), delay=RETRY_SECONDS))
        except Exception as error:
            reason = self._reason(error)
            if reason is None:
                log.exception("unhandled exception in %s %s", self._what, lease.key[0])
                reason = f"the {self._what} failed; see the server's log for the reason"
            await self._record(partial(self._records.fail, lease, reason))
        finally:
            del self._running[lease.key]
            self._work_available.set()

    @abstractmethod
    def _reason(self, error: Exception) -> str | None:
        """Return why work has failed, in words for its user; None for an error that only the server's log may show."""

    async def _record(self, write: Callable[[], object]) -> None:
        """Write how work ended. If the store cannot be reached, the lease expires."""
        try:
            with named_thread_failures("to store it", Unavailable):
                await asyncio.to_thread(write)
        except AmpsweepError as error:
            log.warning("the state of leased work could not be stored; its lease will expire: %s", error)
