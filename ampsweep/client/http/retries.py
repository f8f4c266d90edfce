"""Retry policy of the clients: which failed requests are sent again, and after how long."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import count
from typing import TypeVar

from ampsweep.errors import (
    AmpsweepError,
    ConnectionLost,
    NoConnection,
    RateLimited,
    StillRunning,
    TooManyStreams,
    Unavailable,
)

T = TypeVar("T")

RETRYABLE = (RateLimited, StillRunning, TooManyStreams, Unavailable)
"""Errors after which a retry may succeed. Except for ConnectionLost, the server has done nothing yet."""


@dataclass(frozen=True, kw_only=True)
class Retries:
    """Exponential back-off with jitter; a request is sent at most 1 + `times` times.

    The wait starts at `first` seconds and doubles up to `longest`. Up to half of it is taken off at random, so that
    clients which failed together do not retry together. A Retry-After of the server is a lower bound of the wait; if
    it is longer than `longest` seconds, the error is raised instead.
    """

    times: int = 4
    first: float = 0.5
    longest: float = 30.0

    def wait(self, error: AmpsweepError, *, attempt: int, repeatable: bool, chance: float) -> float | None:
        """Return the seconds to wait before the next attempt, or None if there must be none.

        Args:
            error: The error of the last attempt.
            attempt: The number of attempts so far, from 1.
            repeatable: Whether sending the request twice does no harm. A request for which it does is sent again only
                if the server is certain to have done nothing.
            chance: A random number from 0 to 1, for the jitter.
        """
        if attempt > self.times or not isinstance(error, RETRYABLE):
            return None
        if isinstance(error, ConnectionLost) and not repeatable:
            return None
        wait = min(self.longest, self.first * 2.0 ** (attempt - 1)) * (1 - chance / 2)
        if error.retry_after is None or isinstance(error, NoConnection | ConnectionLost):
            return wait
        return None if error.retry_after > self.longest else error.retry_after + wait

    async def until_success(
        self, send: Callable[[], Awaitable[T]], *, repeatable: bool, sleep: Callable[[float], Awaitable[None]]
    ) -> T:
        """Call `send` until it succeeds, or raise its error when a retry cannot help or the retries are used up.

        Args:
            send: Sends the request once.
            repeatable: Whether sending it twice does no harm.
            sleep: Waits so many seconds.
        """
        for attempt in count(1):
            try:
                return await send()
            except AmpsweepError as error:
                chance = random.random()  # noqa: S311
                wait = self.wait(error, attempt=attempt, repeatable=repeatable, chance=chance)
                if wait is None:
                    raise
            await sleep(wait)
        raise AssertionError("the loop ends by a return or an exception")
