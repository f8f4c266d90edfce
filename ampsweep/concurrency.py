"""Coroutines that run concurrently and end together: the first error cancels the others and is raised itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


@asynccontextmanager
async def task_group() -> AsyncIterator[asyncio.TaskGroup]:
    """Open a task group that raises the first error of its tasks or of its block, not a group of errors."""
    try:
        async with asyncio.TaskGroup() as group:
            yield group
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None


async def in_window(
    requests: Iterable[T], answer: Callable[[T], Coroutine[None, None, R]], *, window: asyncio.Semaphore
) -> list[R]:
    """Answer requests concurrently, at most as many as the window allows, and return the answers in their order.

    A task is created only once the window has room for it. The first error cancels the other tasks and is raised
    unchanged.
    """
    answers: dict[int, R] = {}

    async def store_answer(index: int, request: T) -> None:
        answers[index] = await answer(request)

    async with task_group() as group:
        for index, request in enumerate(requests):
            await window.acquire()
            task = group.create_task(store_answer(index, request))
            task.add_done_callback(lambda _: window.release())  # also runs for a task cancelled before it starts
    return [answers[index] for index in range(len(answers))]
