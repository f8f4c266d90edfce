"""`Idempotency-Key`: requests that a client can safely repeat.

The store knows which sweep a key created. This module only tracks the keys whose first request is still in progress.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Annotated, cast

from fastapi import Depends, Header, Request

from ampsweep.errors import StillRunning
from api.auth.principal import CurrentPrincipal


class InFlightKeys:
    """The keys whose first request is in progress; each key includes its principal's id."""

    def __init__(self) -> None:
        self._keys: set[str] = set()

    def begin(self, key: str) -> None:
        """Add a key; raise StillRunning if it is in progress already."""
        if key in self._keys:
            message = "the first request with this Idempotency-Key is still in progress; repeat the request later"
            raise StillRunning(message, param="Idempotency-Key")
        self._keys.add(key)

    def end(self, key: str) -> None:
        """Remove a key."""
        self._keys.discard(key)


async def _idempotency_key(
    request: Request,
    principal: CurrentPrincipal,
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=255)] = None,
) -> AsyncGenerator[str | None]:
    if idempotency_key is None:
        yield None
        return
    key = f"{principal.id}:{idempotency_key}"  # so that principals cannot use each other's keys
    in_flight_keys = cast("InFlightKeys", request.app.state.in_flight_keys)
    in_flight_keys.begin(key)
    try:
        yield key
    finally:
        in_flight_keys.end(key)


IdempotencyKey = Annotated[str | None, Depends(_idempotency_key)]
"""The key of a request, unique to its principal, or None. Answers 409 while the first request with it runs."""
