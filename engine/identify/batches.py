"""Work on many small items in a thread, a batch at a time, so that neither the event loop nor the thread is held up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from concurrent.futures import Executor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

BATCH_SECONDS = 0.05
"""After which a batch ends, so that others have their turn in the thread."""
BATCH_RESULTS = 64
"""Results of a batch, at most: what is held before the caller has dealt with it."""


async def in_batches(
    executor: Executor, items: Iterable[Item], work: Callable[[Item], Result | None]
) -> AsyncGenerator[Result]:
    """Call `work` on each item in a thread of `executor`, in order, and yield its results but None.

    The items are read there too. The next batch is begun once the results of the one before have been taken, so what is
    in memory does not grow with the number of items.
    """
    left = iter(items)
    loop = asyncio.get_running_loop()
    more = True
    while more:
        batch: tuple[list[Result], bool] = await loop.run_in_executor(executor, lambda: _batch(left, work))
        results, more = batch
        for result in results:
            yield result


def _batch(left: Iterator[Item], work: Callable[[Item], Result | None]) -> tuple[list[Result], bool]:
    """Return results of the next items, and whether there may be more of them."""
    results: list[Result] = []
    ends = time.monotonic() + BATCH_SECONDS
    for item in left:
        result = work(item)
        if result is not None:
            results.append(result)
        if len(results) == BATCH_RESULTS or time.monotonic() >= ends:
            return results, True
    return results, False
