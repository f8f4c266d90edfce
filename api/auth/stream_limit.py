"""Limits of the concurrent requests of one principal: completions and event streams, and captures of activations."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from typing import cast
from weakref import WeakValueDictionary

from fastapi import Depends, Request

from ampsweep.errors import TooManyStreams
from api.auth.principal import CurrentPrincipal


class StreamLimiter:
    """Counts the streams in progress; a principal may have `limit` of them."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._in_progress: Counter[str] = Counter()

    def acquire(self, principal_id: str) -> None:
        """Count one more stream; raise TooManyStreams if the principal has reached the limit."""
        if self._in_progress[principal_id] >= self._limit:
            message = (
                f"this key has {self._limit} completions and event streams in progress, which is the limit; "
                "wait until one ends"
            )
            raise TooManyStreams(message)
        self._in_progress[principal_id] += 1

    def release(self, principal_id: str) -> None:
        """Count one stream less."""
        self._in_progress[principal_id] -= 1
        if not self._in_progress[principal_id]:
            del self._in_progress[principal_id]

    def total(self) -> int:
        """Return the number of streams in progress, over all principals."""
        return self._in_progress.total()


async def _limit_streams(request: Request, principal: CurrentPrincipal) -> AsyncGenerator[None]:
    stream_limiter = cast("StreamLimiter", request.app.state.stream_limiter)
    stream_limiter.acquire(principal.id)
    try:
        yield
    finally:
        stream_limiter.release(principal.id)


limit_streams = Depends(_limit_streams)
"""Counts each request of a route as a stream of its principal until the response is sent or the client is gone."""


class PrincipalLocks:
    """A lock for each principal, which exists while it is in use."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def of(self, principal_id: str) -> asyncio.Lock:
        """Return the lock of a principal."""
        return self._locks.setdefault(principal_id, asyncio.Lock())


async def _one_at_a_time(request: Request, principal: CurrentPrincipal) -> AsyncGenerator[None]:
    locks = cast("PrincipalLocks", request.app.state.capture_locks)
    async with locks.of(principal.id):
        yield


one_at_a_time = Depends(_one_at_a_time)
"""Lets the requests of one principal to a route wait for each other until the response is sent.

The route then holds the response of one request for each principal in memory, and no principal can take all of it.
"""
