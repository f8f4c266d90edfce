"""Which distinct interventions are in flight: a full table makes requests wait, it never fails them.

Requests with an intervention that is already in flight pass at once; others wait their turn, by priority and then first
come, first served. So that none waits for ever, no more than `PATIENCE` requests pass by one that waits, but for those
of a higher priority.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

PATIENCE = 1024
"""How many requests pass by one that waits; large, so that an intervention's requests mostly run together."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Waiter:
    key: str
    size: int
    rank: tuple[int, int]  # priority and number, the smaller first
    turn: asyncio.Future[None]


class SlotAdmission:
    """Lets in at most `capacity` distinct keys, of together at most `room` in size; for one event loop."""

    def __init__(self, capacity: int, *, room: int, patience: int = PATIENCE) -> None:
        self._capacity = capacity
        self._room = room
        self._patience = patience
        self._holders: Counter[str] = Counter()
        self._sizes: dict[str, int] = {}  # of the keys inside
        self._waiting: list[_Waiter] = []
        self._passed = 0  # requests that went by those who wait, since the last of them was let in
        self._numbers = 0

    @property
    def in_use(self) -> int:
        """How many distinct keys are inside."""
        return len(self._holders)

    @property
    def waiting(self) -> int:
        """How many wait to come in."""
        return len(self._waiting)

    @asynccontextmanager
    async def hold(self, key: str | None, *, size: int = 0, priority: int = 0) -> AsyncIterator[None]:
        """Wait until `key` has a slot, and keep it for the block; None needs no slot. `size` is at most the room."""
        if key is None:
            yield
            return
        await self._enter(key, size, priority)
        try:
            yield
        finally:
            self._leave(key)

    async def _enter(self, key: str, size: int, priority: int) -> None:
        assert size <= self._room
        if self._passes(key, size, priority):
            self._passed += bool(self._waiting)
            self._admit_waiting(key, size)
            return
        self._numbers += 1
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiter = _Waiter(key=key, size=size, rank=(priority, self._numbers), turn=turn)
        self._waiting.append(waiter)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # let in and cancelled at once
                self._leave(key)
            else:
                self._waiting = [other for other in self._waiting if other is not waiter]
                self._admit()
            raise

    def _passes(self, key: str, size: int, priority: int) -> bool:
        if not self._waiting:
            return self._fits(key, size)
        in_time = self._passed < self._patience or priority < min(waiter.rank for waiter in self._waiting)[0]
        return key in self._holders and in_time

    def _fits(self, key: str, size: int) -> bool:
        if key in self._holders:
            return True
        return len(self._holders) < self._capacity and sum(self._sizes.values()) + size <= self._room

    def _admit_waiting(self, key: str, size: int) -> None:
        self._holders[key] += 1
        self._sizes[key] = size

    def _leave(self, key: str) -> None:
        self._holders[key] -= 1
        if self._holders[key] == 0:
            del self._holders[key], self._sizes[key]
            self._admit()

    def _admit(self) -> None:
        """Let in the first in rank, as long as there is room for its key, with all who wait for the same."""
        while self._waiting:
            first = min(self._waiting, key=lambda waiter: waiter.rank)
            if not self._fits(first.key, first.size):
                return
            self._passed = 0
            let_in = [waiter for waiter in self._waiting if waiter.key == first.key and not waiter.turn.done()]
            self._waiting = [waiter for waiter in self._waiting if waiter.key != first.key]
            for waiter in let_in:
                self._admit_waiting(waiter.key, waiter.size)
                waiter.turn.set_result(None)
