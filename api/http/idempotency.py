"""`Idempotency-Key`: requests that a client may safely send again.

The response to the first request with a key is kept in the store. This module only tracks which keys have no response
yet.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Annotated, cast

from fastapi import Depends, Header, Request

from ampsweep.errors import StillRunning
from api.auth.principal import CurrentPrincipal


class InFlightKeys:
    """The keys whose first request is being answered, each told apart by its caller."""

    def __init__(self) -> None:
        self._keys: set[str] = set()

    def begin(self, key: str) -> None:
        """Note a key; StillRunning where it is noted."""
        if key in self._keys:
            message = "the first request with this Idempotency-Key is being answered; ask again"
            raise StillRunning(message, param="Idempotency-Key")
        self._keys.add(key)

    def end(self, key: str) -> None:
        """Forget a key."""
        self._keys.discard(key)


async def _once(
    request: Request,
    principal: CurrentPrincipal,
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=255)] = None,
) -> AsyncGenerator[str | None]:
    if idempotency_key is None:
        yield None
        return
    key = f"{principal.id}:{idempotency_key}"  # nobody takes another's
    unanswered = cast("InFlightKeys", request.app.state.in_flight_keys)
    unanswered.begin(key)
    try:
        yield key
    finally:
        unanswered.end(key)


IdempotencyKey = Annotated[str | None, Depends(_once)]
"""The key of a request, its caller's alone, or None. StillRunning (409) while the first request with it runs."""
