"""Loops that poll the store for work."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

from ampsweep.errors import Unavailable
from ampsweep.out_of_threads import named_thread_failures
from worker.repeated_warnings import RepeatedWarnings

log = logging.getLogger(__name__)


async def poll_forever(
    step: Callable[[], Awaitable[object]], *, name: str, wake: asyncio.Event, interval: float, stops: asyncio.Event
) -> None:
    """Call `step` every `interval` seconds, and when `wake` is set, until `stops` is set. An error never ends the loop.

    Args:
        step: One poll.
        name: What polls, for log messages.
        wake: Causes an immediate call; cleared before each call. Set it together with `stops`.
        interval: Seconds between two calls.
        stops: Ends the loop after the current call.
    """
    warnings = RepeatedWarnings(log)
    while not stops.is_set():
        if wake is not stops:
            wake.clear()
        try:
            with named_thread_failures(f"in {name}", Unavailable):
                await step()
            warnings.end()
        except Unavailable as error:
            warnings.warn(f"{name} will retry: {error}")
        except Exception:
            log.exception("unhandled exception in %s; it will retry", name)
        with suppress(TimeoutError):
            async with asyncio.timeout(interval):
                await wake.wait()
