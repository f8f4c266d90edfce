"""Which intervention has which slot of a worker's table. Slot 0 changes nothing.

A slot is filled once, counted while requests use it, and kept after the last of them: the same intervention later finds
it filled. It is emptied, the longest unused first, only when another intervention needs the slot or the room.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

from engine.kernels.device_table import SlotEntries


class RowStore(Protocol):
    """Where the rows of slots 1 and up are kept."""

    def fits(self, row: SlotEntries) -> bool:
        """Say whether there is room for a row in a slot that has none."""
        ...

    def write(self, slot: int, row: SlotEntries) -> None:
        """Make `row` the entries of a slot that has none, from the next step on."""
        ...

    def clear(self, slot: int) -> None:
        """Leave a slot without entries, from the next step on."""
        ...


class Slots:
    """Slots 1 to `capacity`, by the key of what fills them."""

    def __init__(self, store: RowStore, *, capacity: int) -> None:
        self._store = store
        self._free = list(range(capacity, 0, -1))
        self._slots: dict[str, int] = {}
        self._users: dict[str, int] = {}
        self._idle: OrderedDict[str, None] = OrderedDict()  # filled and unused, the longest unused first

    def acquire(self, key: str, row: Callable[[], SlotEntries]) -> int:
        """Return the slot of `key`, filled with `row()` if it was not yet, and count one more user."""
        slot = self._slots.get(key)
        if slot is None:
            slot = self._slots[key] = self._fill(row())
        self._idle.pop(key, None)
        self._users[key] = self._users.get(key, 0) + 1
        return slot

    def release(self, key: str) -> None:
        """Count one user less; the slot stays filled until it is needed."""
        self._users[key] -= 1
        if self._users[key] == 0:
            del self._users[key]
            self._idle[key] = None

    @property
    def in_use(self) -> int:
        """How many slots have users."""
        return len(self._users)

    def _fill(self, row: SlotEntries) -> int:
        while not self._free or not self._store.fits(row):
            assert self._idle, "more interventions in flight than the table holds: the engine's gate let too many in"
            key, _ = self._idle.popitem(last=False)
            slot = self._slots.pop(key)
            self._store.clear(slot)
            self._free.append(slot)
        slot = self._free.pop()
        self._store.write(slot, row)
        return slot
