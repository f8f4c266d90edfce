"""How often somebody may ask: a limit a minute, kept as one number a caller."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from ampsweep.errors import RateLimited

_MINUTE = 60.0


class RateLimiter:
    """The generic cell rate algorithm: `a_minute` requests at once, then one every 60 / a_minute seconds.

    `now` counts seconds and never goes back. `a_minute` None sets no limit.
    """

    def __init__(self, a_minute: int | None, *, now: Callable[[], float] = time.monotonic) -> None:
        self._apart = None if a_minute is None else _MINUTE / a_minute
        self._now = now
        self._free_at: dict[str, float] = {}

    def acquire(self, who: str) -> None:
        """Count a request of `who`; RateLimited, with the seconds to wait, where there were too many."""
        if self._apart is None:
            return
        now = self._now()
        free_at = max(self._free_at.get(who, now), now) + self._apart
        wait = free_at - now - _MINUTE
        if wait > 1e-9:
            message = f"more than {round(_MINUTE / self._apart)} requests a minute; slow down"
            raise RateLimited(message).after(math.ceil(wait))
        self._free_at[who] = free_at
