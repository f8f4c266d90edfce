"""Processes many small items in a thread, in batches that block neither the event loop nor the thread for long."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator
from concurrent.futures import Executor
from typing import Protocol, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
T = TypeVar("T")

BATCH_SECONDS = 0.05
"""Seconds after which a batch ends, so that other work gets the thread."""
BATCH_RESULTS = 64
"""Maximum number of results of a batch, all of which are in memory until the caller has taken them."""


class RunInThread(Protocol):
    """Runs a function in a thread and returns what it returns."""

    def __call__(self, function: Callable[[], T], /) -> Awaitable[T]:
        """See the class."""
        ...


def run_in(executor: Executor) -> RunInThread:
    """Return a function that runs others in a thread of `executor`."""

    async def run(function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(executor, function)

    return run


async def in_batches(
    run: RunInThread, items: Iterable[Item], work: Callable[[Item], Result | None]
) -> AsyncGenerator[Result]:
    """Call `work` on each item in a thread, by `run`, in order, and yield its results but None.

    The items are read in the thread too. A batch starts once the results of the previous one have been taken, so memory
    use does not grow with the number of items.
    """
    remaining = iter(items)
    more = True
    while more:
        results, more = await run(lambda: _batch(remaining, work))
        for result in results:
            yield result


def _batch(remaining: Iterator[Item], work: Callable[[Item], Result | None]) -> tuple[list[Result], bool]:
    """Return the results of the next items, and whether there may be more items."""
    results: list[Result] = []
    deadline = time.monotonic() + BATCH_SECONDS
    for item in remaining:
        result = work(item)
        if result is not None:
            results.append(result)
        if len(results) == BATCH_RESULTS or time.monotonic() >= deadline:
            return results, True
    return results, False
