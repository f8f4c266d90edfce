"""Admission of requests to the slots of the steering table. A full table makes requests wait; it never fails them.

A request whose intervention is already in flight is admitted at once. The others wait, ordered by priority and then by
arrival. To bound the wait, at most `MAX_OVERTAKES` requests may overtake a waiting one; requests of a higher priority
may always do so.

`SlotQueue` has these rules. `SlotAdmission` lets coroutines wait by them; `engine.vllm.plugin.scheduler` lets requests
wait in vLLM's scheduler.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from operator import attrgetter
from typing import Generic, TypeVar

MAX_OVERTAKES = 1024
"""How many requests may overtake a waiting one; large, so that requests of one intervention mostly run together."""

Waiter = TypeVar("Waiter")
"""Whoever waits for a slot, compared by identity."""
_rank = attrgetter("rank")


@dataclass(frozen=True, kw_only=True, eq=False)
class _Place(Generic[Waiter]):
    key: str
    size: int
    rank: tuple[int, int]  # priority and arrival number; the smaller goes first
    waiter: Waiter


class SlotQueue(Generic[Waiter]):
    """Admits at most `capacity` distinct keys with at most `max_entries` entries together.

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
        self._entries = 0  # of all admitted keys
        self._waiting: list[_Place[Waiter]] = []  # by rank
        self._waiting_for: dict[str, list[_Place[Waiter]]] = {}  # by key, in order of arrival
        self._places: dict[int, _Place[Waiter]] = {}  # by the identity of the waiter
        self._overtakes = 0  # requests admitted past the waiting ones since the last of those was admitted
        self._arrivals = 0

    @property
    def capacity(self) -> int:
        """Slots of the table."""
        return self._capacity

    @property
    def in_use(self) -> int:
        """How many distinct keys are admitted."""
        return len(self._holders)

    @property
    def waiting(self) -> int:
        """How many requests wait for admission."""
        return len(self._waiting)

    def acquire(self, waiter: Waiter, key: str, *, size: int, priority: int = 0) -> bool:
        """Admit a request, or let it wait until a later call returns its waiter.

        Args:
            waiter: Stands for the request.
            key: What fills the slot, see `engine.vllm.requests.request_extras.steering_key`.
            size: Entries that the key takes; at most `max_entries`.
            priority: The smaller, the sooner the request is admitted.

        Returns:
            Whether it was admitted at once.
        """
        assert size <= self._max_entries
        if self._may_enter_now(key, size, priority):
            self._overtakes += bool(self._waiting)
            self._count_in(key, size)
            return True
        self._arrivals += 1
        place = _Place(key=key, size=size, rank=(priority, self._arrivals), waiter=waiter)
        insort(self._waiting, place, key=_rank)
        self._waiting_for.setdefault(key, []).append(place)
        self._places[id(waiter)] = place
        return False

    def release(self, key: str) -> list[Waiter]:
        """End the use of a key by an admitted request, and return the waiters that this admits."""
        self._holders[key] -= 1
        if self._holders[key]:
            return []
        del self._holders[key]
        self._entries -= self._sizes.pop(key)
        return self._admit()

    def withdraw(self, waiter: Waiter) -> list[Waiter]:
        """Forget a request that waits, if it does, and return the waiters that this admits."""
        place = self._places.get(id(waiter))
        if place is None:
            return []
        self._forget(place)
        self._waiting_for[place.key].remove(place)
        if not self._waiting_for[place.key]:
            del self._waiting_for[place.key]
        return self._admit()

    def _may_enter_now(self, key: str, size: int, priority: int) -> bool:
        if not self._waiting:
            return self._fits(key, size)
        highest, _ = self._waiting[0].rank
        return key in self._holders and (self._overtakes < self._max_overtakes or priority < highest)

    def _fits(self, key: str, size: int) -> bool:
        if key in self._holders:
            return True
        return len(self._holders) < self._capacity and self._entries + size <= self._max_entries

    def _count_in(self, key: str, size: int) -> None:
        self._holders[key] += 1
        if key not in self._sizes:
            self._sizes[key] = size
            self._entries += size

    def _admit(self) -> list[Waiter]:
        """Admit the waiting requests in rank order while their keys fit, and with each all that wait for its key."""
        admitted: list[Waiter] = []
        while self._waiting:
            first = self._waiting[0]
            if not self._fits(first.key, first.size):
                break
            self._overtakes = 0
            for place in self._waiting_for.pop(first.key):
                self._forget(place)
                self._count_in(place.key, place.size)
                admitted.append(place.waiter)
        return admitted

    def _forget(self, place: _Place[Waiter]) -> None:
        del self._places[id(place.waiter)]
        del self._waiting[bisect_left(self._waiting, place.rank, key=_rank)]


@dataclass(frozen=True, eq=False)
class _Sleeper:
    key: str
    admitted: asyncio.Future[None]


class SlotAdmission:
    """Lets coroutines of one event loop wait for a slot by the rules of a `SlotQueue`, whose arguments it has."""

    def __init__(self, capacity: int, *, max_entries: int, max_overtakes: int = MAX_OVERTAKES) -> None:
        self._queue: SlotQueue[_Sleeper] = SlotQueue(capacity, max_entries=max_entries, max_overtakes=max_overtakes)

    @property
    def in_use(self) -> int:
        """How many distinct keys are admitted."""
        return self._queue.in_use

    @property
    def waiting(self) -> int:
        """How many requests wait for admission."""
        return self._queue.waiting

    @asynccontextmanager
    async def hold(self, key: str | None, *, size: int = 0, priority: int = 0) -> AsyncIterator[None]:
        """Wait until `key` has a slot and hold it for the block.

        Args:
            key: What fills the slot; None needs no slot. See `SlotQueue.acquire`.
            size: Entries that the key takes.
            priority: The smaller, the sooner the request is admitted.
        """
        if key is None:
            yield
            return
        sleeper = _Sleeper(key, asyncio.get_running_loop().create_future())
        if not self._queue.acquire(sleeper, key, size=size, priority=priority):
            await self._sleep(sleeper)
        try:
            yield
        finally:
            self._wake(self._queue.release(key))

    async def _sleep(self, sleeper: _Sleeper) -> None:
        try:
            await sleeper.admitted
        except asyncio.CancelledError:
            if sleeper.admitted.cancelled():
                self._wake(self._queue.withdraw(sleeper))
            else:  # admitted and cancelled in the same pass of the loop
                self._wake(self._queue.release(sleeper.key))
            raise

    def _wake(self, sleepers: list[_Sleeper]) -> None:
        for sleeper in sleepers:
            if sleeper.admitted.cancelled():  # its coroutine has not run since
                self._wake(self._queue.release(sleeper.key))
            else:
                sleeper.admitted.set_result(None)
