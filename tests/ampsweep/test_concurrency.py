"""Concurrent coroutines: no more of them than a window allows, and one error instead of a group of errors."""

from __future__ import annotations

import asyncio

import pytest

from ampsweep.concurrency import in_window, task_group
from ampsweep.errors import EngineFailed

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("in_block", [True, False])
async def test_a_task_group_raises_the_first_error_and_cancels_the_rest(in_block: bool) -> None:
    cancelled = []

    async def wait() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append("waiting")
            raise

    async def fail() -> None:
        raise EngineFailed("it died")

    async def run() -> None:
        async with task_group() as group:
            group.create_task(wait())
            await asyncio.sleep(0)
            if in_block:
                await fail()
            group.create_task(fail())

    with pytest.raises(EngineFailed, match="it died"):
        await run()
    assert cancelled == ["waiting"]


async def test_there_are_no_more_tasks_than_requests_in_flight() -> None:
    window, most = asyncio.Semaphore(5), 0

    async def answer(number: int) -> int:
        nonlocal most
        await asyncio.sleep(0)
        most = max(most, len(asyncio.all_tasks()))
        return number * 2

    before = len(asyncio.all_tasks())
    assert await in_window(iter(range(2000)), answer, window=window) == [number * 2 for number in range(2000)]
    assert most <= before + 5
    assert window._value == 5


@pytest.mark.parametrize("fails", [0, 3, 50])
async def test_an_error_ends_the_others_and_leaves_the_window_as_it_was(fails: int) -> None:
    window, ended = asyncio.Semaphore(5), 0

    async def answer(number: int) -> int:
        nonlocal ended
        try:
            if number == fails:
                raise EngineFailed("it died")
            await asyncio.sleep(0.001 if number < fails else 60)
            return number
        finally:
            ended += 1

    with pytest.raises(EngineFailed, match="it died"):
        await in_window(iter(range(2000)), answer, window=window)
    assert ended <= fails + 5
    assert window._value == 5
