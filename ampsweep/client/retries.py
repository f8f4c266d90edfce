"""When a request is sent again, and after how long."""

from __future__ import annotations

from dataclasses import dataclass

from ampsweep.errors import (
    AmpsweepError,
    ConnectionLost,
    NoConnection,
    RateLimited,
    StillRunning,
    TooManyStreams,
    Unavailable,
)

REFUSED = (RateLimited, StillRunning, TooManyStreams, Unavailable)
"""What a server answers that has done nothing yet; so has one that was never reached (NoConnection)."""


@dataclass(frozen=True, kw_only=True)
class Retries:
    """A request is sent at most 1 + `times` times.

    Each wait is twice as long as the one before (`first` seconds, at most `longest`), less up to half of it by chance,
    so that clients which failed together do not come back together. Where the server says when to come back, no one
    comes earlier; where that is more than `longest` away, the error is raised instead.
    """

    times: int = 4
    first: float = 0.5
    longest: float = 30.0

    def wait(self, error: AmpsweepError, *, attempt: int, repeatable: bool, chance: float) -> float | None:
        """Return the seconds until the next attempt after the `attempt`-th (from 1) failed, None where there is none.

        A request that may not be `repeatable` is sent again only where it is sure that nothing was done. `chance` is
        a number from 0 to 1.
        """
        if attempt > self.times or not isinstance(error, REFUSED):
            return None
        if isinstance(error, ConnectionLost) and not repeatable:
            return None
        wait = min(self.longest, self.first * 2.0 ** (attempt - 1)) * (1 - chance / 2)
        if error.retry_after is None or isinstance(error, NoConnection | ConnectionLost):
            return wait
        return None if error.retry_after > self.longest else error.retry_after + wait
