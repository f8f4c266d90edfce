"""How many distinct interventions are in flight: a full table makes requests wait, it never fails them.

Requests with an intervention that is already in flight pass at once; others wait their turn, first come first served.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class SlotGate:
    """Lets in at most `capacity` distinct keys; for one event loop."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._holders: Counter[str] = Counter()
        self._waiting: deque[tuple[str, asyncio.Future[None]]] = deque()

    @property
    def in_use(self) -> int:
        """How many distinct keys are inside."""
        return len(self._holders)

    @asynccontextmanager
    async def hold(self, key: str | None) -> AsyncIterator[None]:
        """Wait until `key` has a slot, and keep it for the block; None needs no slot."""
        if key is None:
            yield
            return
        await self._enter(key)
        try:
            yield
        finally:
            self._leave(key)

    async def _enter(self, key: str) -> None:
        if key in self._holders or len(self._holders) < self._capacity:
            self._holders[key] += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((key, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # let in and cancelled at once
                self._leave(key)
            else:
                self._waiting = deque(entry for entry in self._waiting if entry[1] is not turn)
            raise

    def _leave(self, key: str) -> None:
        self._holders[key] -= 1
        if self._holders[key] == 0:
            del self._holders[key]
            self._admit()

    def _admit(self) -> None:
        """Let in the longest waiting key, as long as there is room, with all who wait for the same."""
        while self._waiting and len(self._holders) < self._capacity:
            key = self._waiting[0][0]
            let_in = [entry for entry in self._waiting if entry[0] == key]
            self._waiting = deque(entry for entry in self._waiting if entry[0] != key)
            for _, turn in let_in:
                if not turn.done():
                    self._holders[key] += 1
                    turn.set_result(None)
