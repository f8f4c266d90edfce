"""Assigns the slots of a worker's table to interventions. Slot 0 changes nothing.

A slot is filled once and reference-counted by the requests that use it. It stays filled after the last of them, so the
same intervention can reuse it. Slots are evicted, least recently used first, only when another intervention needs the
slot or its entries.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

from engine.kernels.device_table import SlotEntries


class RowStore(Protocol):
    """The table that holds the rows of slots 1 and up."""

    def fits(self, row: SlotEntries) -> bool:
        """Return whether the table has room for another row."""
        ...

    def write(self, slot: int, row: SlotEntries) -> None:
        """Set the entries of an empty slot, from the next step on."""
        ...

    def clear(self, slot: int) -> None:
        """Remove a slot's entries, from the next step on."""
        ...


class Slots:
    """Slots 1 to `capacity`, by the key of the intervention that fills them."""

    def __init__(self, store: RowStore, *, capacity: int) -> None:
        self._store = store
        self._free = list(range(capacity, 0, -1))
        self._slots: dict[str, int] = {}
        self._users: dict[str, int] = {}
        self._idle: OrderedDict[str, None] = OrderedDict()  # filled and unused, least recently used first

    def acquire(self, key: str, row: Callable[[], SlotEntries]) -> int:
        """Return the slot of `key`, filling it with `row()` if it is not filled, and add a user."""
        slot = self._slots.get(key)
        if slot is None:
            slot = self._slots[key] = self._fill(row())
        self._idle.pop(key, None)
        self._users[key] = self._users.get(key, 0) + 1
        return slot

    def release(self, key: str) -> None:
        """Remove a user; the slot stays filled until it is evicted."""
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
            assert self._idle, "more interventions in flight than the table holds: the engine admitted too many"
            key, _ = self._idle.popitem(last=False)
            slot = self._slots.pop(key)
            self._store.clear(slot)
            self._free.append(slot)
        slot = self._free.pop()
        self._store.write(slot, row)
        return slot
