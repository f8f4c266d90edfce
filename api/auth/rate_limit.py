"""Rate limit of requests per minute, with one number of state for each principal."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from ampsweep.errors import RateLimited

_MINUTE = 60.0


class RateLimiter:
    """The generic cell rate algorithm: `a_minute` requests at once, then one every 60 / a_minute seconds.

    Args:
        a_minute: Requests per minute and principal; None sets no limit.
        now: A monotonic clock, in seconds.
    """

    def __init__(self, a_minute: int | None, *, now: Callable[[], float] = time.monotonic) -> None:
        self._interval = None if a_minute is None else _MINUTE / a_minute
        self._now = now
        self._free_at: dict[str, float] = {}

    def acquire(self, principal_id: str) -> None:
        """Count a request; raise RateLimited, with the seconds to wait, if the principal has sent too many."""
        if self._interval is None:
            return
        now = self._now()
        free_at = max(self._free_at.get(principal_id, now), now) + self._interval
        wait = free_at - now - _MINUTE
        if wait > 1e-9:
            limit = round(_MINUTE / self._interval)
            message = f"more than {limit} requests a minute; retry in {math.ceil(wait)} s"
            raise RateLimited(message).after(math.ceil(wait))
        self._free_at[principal_id] = free_at
