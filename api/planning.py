"""Plans sweeps in threads of their own, and for a limited time.

The first plan with a task of the Hub downloads the task's data, which takes minutes if the data is large or the Hub
does not answer. The threads that all other requests share must not be occupied for so long.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from threading import Thread
from typing import TypeVar

from ampsweep.errors import DataUnavailable

T = TypeVar("T")

MAX_THREADS = 8
"""Maximum number of plans that are made at the same time."""
PLAN_SECONDS = 45.0
"""How long a request waits for its plan: less than the minute after which proxies commonly end a request."""


class PlanningThreads:
    """Runs functions that plan sweeps.

    Args:
        seconds: How long a call waits.
        threads: Number of threads; further calls wait for one of them.
    """

    def __init__(self, *, seconds: float = PLAN_SECONDS, threads: int = MAX_THREADS) -> None:
        self.seconds = seconds
        self._free = asyncio.Semaphore(threads)

    async def run(self, plan: Callable[[], T]) -> T:
        """Call a function that writes nothing in a thread, and return its result.

        Raises:
            DataUnavailable: It takes too long. It is not stopped, so that a repeated request finds the data loaded.
        """
        try:
            async with asyncio.timeout(self.seconds):
                await self._free.acquire()
                return await asyncio.shield(self._started(plan))
        except TimeoutError:
            raise DataUnavailable(
                f"the sweep could not be planned within {self.seconds:.0f} seconds, because the data of a task is "
                "still being loaded; the server continues to load it, so send the request again in a minute. If that "
                "does not help, make sure that the server reaches the Hugging Face Hub",
                param="tasks",
            ) from None

    def _started(self, plan: Callable[[], T]) -> asyncio.Future[T]:
        """Start a thread that holds a place until `plan` has ended, and return the future of its result."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        future.add_done_callback(_retrieve)
        context = copy_context()

        def end(set_result: Callable[[], None]) -> None:
            self._free.release()
            if not future.cancelled():
                set_result()

        def work() -> None:
            try:
                set_result = partial(future.set_result, context.run(plan))
            except BaseException as error:  # noqa: BLE001  # raised again where the result is awaited
                set_result = partial(future.set_exception, error)
            with suppress(RuntimeError):  # the event loop was closed meanwhile
                loop.call_soon_threadsafe(end, set_result)

        try:
            Thread(target=work, name="planning", daemon=True).start()  # a daemon, so that it delays no shutdown
        except BaseException:  # the machine is out of threads
            self._free.release()
            raise
        return future


def _retrieve(future: asyncio.Future[T]) -> None:
    """Retrieve an error, so that asyncio does not report it if the request ended before and nobody awaits it."""
    if not future.cancelled():
        future.exception()
