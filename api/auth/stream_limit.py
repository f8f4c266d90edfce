"""How many long answers a caller has under way."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator
from typing import cast

from fastapi import Depends, Request

from ampsweep.errors import TooManyStreams
from api.auth.principal import CurrentPrincipal


class StreamLimiter:
    """Counts the answers under way; `at_most` of one caller."""

    def __init__(self, at_most: int) -> None:
        self._at_most = at_most
        self._under_way: Counter[str] = Counter()

    def acquire(self, principal_id: str) -> None:
        """Count one more; TooManyStreams where that is too many."""
        if self._under_way[principal_id] >= self._at_most:
            message = f"{self._at_most} completions and event streams of this key are under way; end one first"
            raise TooManyStreams(message)
        self._under_way[principal_id] += 1

    def release(self, principal_id: str) -> None:
        """Count one less."""
        self._under_way[principal_id] -= 1
        if not self._under_way[principal_id]:
            del self._under_way[principal_id]

    def total(self) -> int:
        """Return how many are under way, of all callers."""
        return self._under_way.total()


async def _one(request: Request, principal: CurrentPrincipal) -> AsyncGenerator[None]:
    stream_limiter = cast("StreamLimiter", request.app.state.stream_limiter)
    stream_limiter.acquire(principal.id)
    try:
        yield
    finally:
        stream_limiter.release(principal.id)


limit_streams = Depends(_one)
"""A route with this counts as a stream of its caller until its answer is sent, or nobody waits for it any more."""
