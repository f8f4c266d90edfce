"""Admission of requests to the slots of the steering table. A full table makes requests wait; it never fails them.

A request whose intervention is already in flight is admitted at once. The others wait, ordered by priority and then by
arrival. To bound the wait, at most `MAX_OVERTAKES` requests may overtake a waiting one; requests of a higher priority
may always do so.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

MAX_OVERTAKES = 1024
"""How many requests may overtake a waiting one; large, so that requests of one intervention mostly run together."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Waiter:
    key: str
    size: int
    rank: tuple[int, int]  # priority and arrival number; the smaller goes first
    admitted: asyncio.Future[None]


class SlotAdmission:
    """Admits at most `capacity` distinct keys with at most `max_entries` entries together; for one event loop.

    Args:
        capacity: Slots of the table.
        max_entries: Entries of the table, over all slots.
        max_overtakes: How many requests may overtake a waiting one.
    """

    def __init__(self, capacity: int, *, max_entries: int, max_overtakes: int = MAX_OVERTAKES) -> None:
        self._capacity = capacity
        self._max_entries = max_entries
        self._max_overtakes = max_overtakes
        self._holders: Counter[str] = Counter()
        self._sizes: dict[str, int] = {}  # entries of each admitted key
        self._waiting: list[_Waiter] = []
        self._overtakes = 0  # requests admitted past the waiting ones since the last of those was admitted
        self._arrivals = 0

    @property
    def in_use(self) -> int:
        """How many distinct keys are admitted."""
        return len(self._holders)

    @property
    def waiting(self) -> int:
        """How many requests wait for admission."""
        return len(self._waiting)

    @asynccontextmanager
    async def hold(self, key: str | None, *, size: int = 0, priority: int = 0) -> AsyncIterator[None]:
        """Wait until `key` has a slot and hold it for the block.

        Args:
            key: What fills the slot, see `engine.vllm.request_extras.steering_key`. None needs no slot.
            size: Entries that the key takes; at most `max_entries`.
            priority: The smaller, the sooner the request is admitted.
        """
        if key is None:
            yield
            return
        await self._acquire(key, size, priority)
        try:
            yield
        finally:
            self._release(key)

    async def _acquire(self, key: str, size: int, priority: int) -> None:
        assert size <= self._max_entries
        if self._may_enter_now(key, size, priority):
            self._overtakes += bool(self._waiting)
            self._count_in(key, size)
            return
        self._arrivals += 1
        admitted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiter = _Waiter(key=key, size=size, rank=(priority, self._arrivals), admitted=admitted)
        self._waiting.append(waiter)
        try:
            await admitted
        except asyncio.CancelledError:
            if admitted.done() and not admitted.cancelled():  # admitted and cancelled in the same pass of the loop
                self._release(key)
            else:
                self._waiting = [other for other in self._waiting if other is not waiter]
                self._admit()
            raise

    def _may_enter_now(self, key: str, size: int, priority: int) -> bool:
        if not self._waiting:
            return self._fits(key, size)
        highest = min(waiter.rank for waiter in self._waiting)[0]
        return key in self._holders and (self._overtakes < self._max_overtakes or priority < highest)

    def _fits(self, key: str, size: int) -> bool:
        if key in self._holders:
            return True
        return len(self._holders) < self._capacity and sum(self._sizes.values()) + size <= self._max_entries

    def _count_in(self, key: str, size: int) -> None:
        self._holders[key] += 1
        self._sizes[key] = size

    def _release(self, key: str) -> None:
        self._holders[key] -= 1
        if self._holders[key] == 0:
            del self._holders[key], self._sizes[key]
            self._admit()

    def _admit(self) -> None:
        """Admit the waiting requests in rank order while their keys fit, and with each all that wait for its key."""
        while self._waiting:
            first = min(self._waiting, key=lambda waiter: waiter.rank)
            if not self._fits(first.key, first.size):
                return
            self._overtakes = 0
            same_key = [waiter for waiter in self._waiting if waiter.key == first.key and not waiter.admitted.done()]
            self._waiting = [waiter for waiter in self._waiting if waiter.key != first.key]
            for waiter in same_key:
                self._count_in(waiter.key, waiter.size)
                waiter.admitted.set_result(None)
