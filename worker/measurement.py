"""Measures how fast an engine answers the items of a task, to estimate the time of a sweep."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence

from ampsweep.concurrency import in_window
from engine.base import Engine
from jobs.tasks.requests import Call
from worker.run_cell import REQUESTS_IN_FLIGHT
from worker.task_calls import TaskCalls


async def measure_items(
    engine: Engine,
    items: Iterator[Sequence[Call]],
    *,
    seconds: float,
    clock: Callable[[], float] = time.monotonic,
) -> float | None:
    """Return the unsteered items per second of an engine.

    The first item is not counted: an engine may have to compile something for it.

    Args:
        engine: The engine.
        items: The calls of each item. Those that are not needed are not read.
        seconds: No item is begun after this time; those that were begun are waited for.
        clock: Returns the time in seconds.

    Returns:
        The rate; None if there are fewer than two items.
    """
    if (first := next(items, None)) is None:
        return None
    await _answer_item(first, engine)
    started = clock()

    def begun() -> Iterator[Sequence[Call]]:
        for calls in items:
            yield calls
            if clock() - started >= seconds:
                return

    answered = await in_window(
        begun(), lambda calls: _answer_item(calls, engine), window=asyncio.Semaphore(REQUESTS_IN_FLIGHT)
    )
    elapsed = clock() - started
    return len(answered) / elapsed if answered and elapsed > 0 else None


async def _answer_item(calls: Sequence[Call], engine: Engine) -> None:
    unsteered = TaskCalls(engine=engine, steering=None, seed=0)
    await asyncio.gather(*map(unsteered.answer, calls))
