"""A full table makes requests wait in order and never fails them."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from engine.vllm.admission import SlotAdmission


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 10))


class User:
    """One request that holds a key until it is told to leave."""

    def __init__(self, admission: SlotAdmission, key: str | None, priority: int = 0, size: int = 0) -> None:
        self.leave = asyncio.Event()
        self.inside = False
        self.task = asyncio.create_task(self._use(admission, key, priority, size))

    async def _use(self, admission: SlotAdmission, key: str | None, priority: int, size: int) -> None:
        async with admission.hold(key, size=size, priority=priority):
            self.inside = True
            await self.leave.wait()


async def run_ready_tasks() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_more_keys_than_slots_wait_and_all_are_admitted() -> None:
    async def check() -> None:
        admission = SlotAdmission(2, max_entries=0)
        users = [User(admission, key) for key in "abcd"]
        await run_ready_tasks()
        assert [user.inside for user in users] == [True, True, False, False]
        users[0].leave.set()
        await run_ready_tasks()
        assert [user.inside for user in users] == [True, True, True, False]
        for user in users:
            user.leave.set()
        await asyncio.gather(*(user.task for user in users))
        assert admission.in_use == 0

    run(check())


def test_large_keys_wait_for_entries_and_an_admitted_key_takes_none() -> None:
    async def check() -> None:
        admission = SlotAdmission(4, max_entries=10)
        users = [User(admission, key, size=size) for key, size in (("a", 4), ("b", 6), ("a", 4), ("c", 5), ("d", 1))]
        await run_ready_tasks()
        assert [user.inside for user in users] == [True, True, True, False, False]
        users[0].leave.set()
        await run_ready_tasks()
        assert [user.inside for user in users] == [True, True, True, False, False]  # a has another user
        users[2].leave.set()
        await run_ready_tasks()
        assert [user.inside for user in users] == [True, True, True, False, False]  # 6 + 5 entries do not fit
        users[1].leave.set()
        await run_ready_tasks()
        assert all(user.inside for user in users)
        for user in users:
            user.leave.set()
        await asyncio.gather(*(user.task for user in users))

    run(check())


def test_an_admitted_key_and_requests_without_one_pass_a_full_table() -> None:
    async def check() -> None:
        admission = SlotAdmission(1, max_entries=0)
        users = [User(admission, key) for key in ("a", "b", "a", None)]
        await run_ready_tasks()
        assert [user.inside for user in users] == [True, False, True, True]
        for user in users:
            user.leave.set()
        await asyncio.gather(*(user.task for user in users))

    run(check())


def test_all_requests_that_wait_for_a_key_are_admitted_together() -> None:
    async def check() -> None:
        admission = SlotAdmission(1, max_entries=0)
        users = [User(admission, key) for key in ("a", "b", "c", "b")]
        await run_ready_tasks()
        users[0].leave.set()
        await run_ready_tasks()
        assert [user.inside for user in users] == [True, True, False, True]
        for user in users:
            user.leave.set()
        await asyncio.gather(*(user.task for user in users))

    run(check())


@pytest.mark.parametrize("admitted_first", [False, True])
def test_a_cancelled_wait_leaves_nothing_behind(*, admitted_first: bool) -> None:
    async def check() -> None:
        admission = SlotAdmission(1, max_entries=0)
        first, waiting, last = User(admission, "a"), User(admission, "b"), User(admission, "c")
        await run_ready_tasks()
        if admitted_first:  # its turn comes in the same pass of the loop as the cancellation
            first.leave.set()
            await first.task
        waiting.task.cancel()
        await asyncio.gather(waiting.task, return_exceptions=True)
        first.leave.set()
        await run_ready_tasks()
        assert last.inside
        last.leave.set()
        await asyncio.gather(first.task, last.task)
        assert admission.in_use == 0

    run(check())


def test_no_request_starves_while_others_come_and_go() -> None:
    async def check() -> None:
        admission = SlotAdmission(1, max_entries=0, max_overtakes=3)
        inside = [User(admission, "a")]
        waiting = User(admission, "b")
        await run_ready_tasks()
        for _ in range(3):  # there is always one of "a" inside
            inside.append(User(admission, "a"))
            await run_ready_tasks()
            assert inside[-1].inside
            inside[-2].leave.set()
        late = User(admission, "a")
        await run_ready_tasks()
        assert [user.inside for user in (waiting, late)] == [False, False]
        inside[-1].leave.set()
        await run_ready_tasks()
        assert [user.inside for user in (waiting, late)] == [True, False]
        waiting.leave.set()
        await run_ready_tasks()
        assert [user.inside for user in (waiting, late)] == [True, True]
        late.leave.set()
        await asyncio.gather(waiting.task, late.task, *(user.task for user in inside))
        assert admission.in_use == 0

    run(check())


def test_a_higher_priority_goes_first_even_past_requests_at_the_overtake_limit() -> None:
    async def check() -> None:
        admission = SlotAdmission(1, max_entries=0, max_overtakes=0)
        first, batch, urgent = User(admission, "a", 1), User(admission, "b", 1), User(admission, "c", 0)
        await run_ready_tasks()
        same = [User(admission, "a", 1), User(admission, "a", -1)]
        await run_ready_tasks()
        assert [user.inside for user in same] == [False, True]
        for user in (first, same[1]):
            user.leave.set()
        await run_ready_tasks()
        assert [user.inside for user in (batch, urgent)] == [False, True]
        for user in (batch, urgent, *same):
            user.leave.set()
        await asyncio.gather(*(user.task for user in (first, batch, urgent, *same)))
        assert admission.in_use == 0

    run(check())


def test_a_request_behind_a_cancelled_one_is_admitted() -> None:
    async def check() -> None:
        admission = SlotAdmission(1, max_entries=0, max_overtakes=0)
        first, gives_up = User(admission, "a"), User(admission, "b")
        await run_ready_tasks()
        same = User(admission, "a")
        await run_ready_tasks()
        assert [user.inside for user in (first, same)] == [True, False]
        gives_up.task.cancel()
        await run_ready_tasks()
        assert [user.inside for user in (first, same)] == [True, True]
        for user in (first, same):
            user.leave.set()
        await asyncio.gather(first.task, same.task)

    run(check())
