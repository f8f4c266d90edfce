"""Slots are filled once, counted while in use and reused when free; the rows hold the worker's part."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.edits import Edits
from engine.vllm_patch.table import Shard, SteeringTable

LAYERS, WIDTH = 4, 10
WHOLE = Shard(layers=tuple(range(LAYERS)), first=0, width=WIDTH)


def edits(seed: int) -> Edits:
    rng = np.random.default_rng(seed)
    chosen = rng.random((LAYERS, WIDTH)) < 0.3
    layer, index = np.nonzero(chosen)
    offsets = np.searchsorted(layer, np.arange(LAYERS + 1)).astype(np.int64)
    return Edits(
        offsets=offsets,
        indices=index.astype(np.int32),
        mult=rng.random(len(index)).astype(np.float32),
        add=rng.random(len(index)).astype(np.float32),
    )


def entries(table: SteeringTable, slot: int, layer: int) -> list[tuple[int, float, float]]:
    rows = table.rows()
    own = slice(rows.starts[slot, layer], rows.starts[slot, layer + 1])
    return list(zip(rows.indices[own].tolist(), rows.mult[own].tolist(), rows.add[own].tolist(), strict=True))


def never() -> Edits:
    raise AssertionError("a filled slot was filled again")


def test_a_slot_is_filled_once_and_found_again_when_nobody_uses_it() -> None:
    table = SteeringTable(WHOLE, capacity=2)
    slot = table.acquire("a", lambda: edits(1))
    assert table.acquire("a", never) == slot
    table.release("a")
    table.release("a")
    assert table.in_use == 0
    assert table.acquire("a", never) == slot


def test_slot_0_stays_empty() -> None:
    table = SteeringTable(WHOLE, capacity=3)
    assert [table.acquire(key, lambda: edits(1)) for key in "abc"] == [1, 2, 3]
    assert (table.rows().starts[0] == 0).all()


def test_the_longest_unused_slot_is_the_one_given_away() -> None:
    table = SteeringTable(WHOLE, capacity=2)
    first, second = table.acquire("a", lambda: edits(1)), table.acquire("b", lambda: edits(2))
    table.release("b")
    table.release("a")
    assert table.acquire("c", lambda: edits(3)) == second
    assert table.acquire("a", never) == first


def test_a_table_that_is_in_use_to_the_last_slot_takes_no_other() -> None:
    table = SteeringTable(WHOLE, capacity=1)
    table.acquire("a", lambda: edits(1))
    with pytest.raises(AssertionError, match="more interventions in flight than slots"):
        table.acquire("b", lambda: edits(2))


def test_rows_that_a_step_holds_are_left_alone_by_a_later_change() -> None:
    table = SteeringTable(WHOLE, capacity=1)
    table.acquire("a", lambda: edits(1))
    held = table.rows()
    before = (held.starts.copy(), held.indices.copy(), held.mult.copy(), held.add.copy())
    table.release("a")
    table.acquire("b", lambda: edits(2))
    assert table.rows() is not held
    for kept, now in zip(before, (held.starts, held.indices, held.mult, held.add), strict=True):
        np.testing.assert_array_equal(kept, now)


@given(
    keys=st.lists(st.integers(0, 5), min_size=1, max_size=30),
    layers=st.sets(st.integers(0, LAYERS - 1), min_size=1),
    first=st.integers(0, WIDTH - 1),
    data=st.data(),
)
def test_rows_hold_exactly_what_falls_into_the_shard(
    keys: list[int], layers: set[int], first: int, data: st.DataObject
) -> None:
    width = data.draw(st.integers(1, WIDTH - first))
    shard = Shard(layers=tuple(sorted(layers)), first=first, width=width)
    table = SteeringTable(shard, capacity=3)
    for key in keys:
        slot = table.acquire(str(key), lambda key=key: edits(key))  # type: ignore[misc]
        whole = edits(key)
        for position, layer in enumerate(shard.layers):
            own = whole.entries(layer)
            indices, mult, add = whole.indices[own], whole.mult[own], whole.add[own]
            inside = (indices >= first) & (indices < first + width)
            expected = zip((indices - first)[inside].tolist(), mult[inside].tolist(), add[inside].tolist(), strict=True)
            assert entries(table, slot, position) == list(expected)
        table.release(str(key))
