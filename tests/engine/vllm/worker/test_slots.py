"""Slots are filled once, reference-counted, and evicted only if another row needs the slot or its entries."""

from __future__ import annotations

import numpy as np
import pytest

from engine.kernels.device_table import SlotEntries
from engine.vllm.worker.slots import Slots

CAPACITY = 10


def row(entries: int) -> SlotEntries:
    return SlotEntries(
        offsets=np.array([0, entries], dtype=np.int64),
        indices=np.arange(entries, dtype=np.int32),
        mult=np.ones(entries, dtype=np.float32),
        add=np.zeros(entries, dtype=np.float32),
    )


class Store:
    """A table with capacity for CAPACITY entries over all slots; it stores how many each slot has."""

    def __init__(self) -> None:
        self.sizes: dict[int, int] = {}

    def fits(self, row: SlotEntries) -> bool:
        return sum(self.sizes.values()) + len(row.indices) <= CAPACITY

    def write(self, slot: int, row: SlotEntries) -> None:
        assert slot not in self.sizes
        assert self.fits(row)
        self.sizes[slot] = len(row.indices)

    def clear(self, slot: int) -> None:
        del self.sizes[slot]


def never() -> SlotEntries:
    raise AssertionError("a filled slot was filled again")


def test_a_slot_is_filled_once_and_reused_after_its_last_user() -> None:
    slots = Slots(Store(), capacity=2)
    slot = slots.acquire("a", lambda: row(1))
    assert slots.acquire("a", never) == slot
    slots.release("a")
    assert slots.in_use == 1
    slots.release("a")
    assert slots.in_use == 0
    assert slots.acquire("a", never) == slot


def test_slot_0_is_never_assigned() -> None:
    slots = Slots(Store(), capacity=3)
    assert [slots.acquire(key, lambda: row(1)) for key in "abc"] == [1, 2, 3]


def test_the_least_recently_used_slot_is_evicted() -> None:
    store = Store()
    slots = Slots(store, capacity=2)
    first, second = slots.acquire("a", lambda: row(1)), slots.acquire("b", lambda: row(2))
    slots.release("b")
    slots.release("a")
    assert slots.acquire("c", lambda: row(3)) == second
    assert slots.acquire("a", never) == first
    assert store.sizes == {first: 1, second: 3}


def test_unused_slots_are_evicted_if_entries_run_out_first() -> None:
    store = Store()
    slots = Slots(store, capacity=4)
    used, *unused = [slots.acquire(key, lambda: row(3)) for key in "abc"]
    slots.release("b")
    slots.release("c")
    large = slots.acquire("d", lambda: row(7))
    assert store.sizes == {used: 3, large: 7}
    assert set(unused) & set(store.sizes) <= {large}


def test_a_row_that_cannot_be_resolved_takes_no_slot() -> None:
    slots = Slots(Store(), capacity=1)
    with pytest.raises(AssertionError, match="filled again"):
        slots.acquire("a", never)
    assert slots.in_use == 0
    assert slots.acquire("b", lambda: row(1)) == 1


@pytest.mark.parametrize("entries", [1, CAPACITY])
def test_a_table_in_full_use_accepts_no_further_row(entries: int) -> None:
    slots = Slots(Store(), capacity=1 if entries == 1 else 2)
    slots.acquire("a", lambda: row(entries))
    with pytest.raises(AssertionError, match="more interventions in flight than the table holds"):
        slots.acquire("b", lambda: row(1))
