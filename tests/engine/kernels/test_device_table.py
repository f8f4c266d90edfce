"""Rows are read back as written after any sequence of changes, and no step sees a partial write."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ampsweep.domain.statistic import NONE, Statistic
from ampsweep.errors import Unavailable
from engine.kernels import device_table
from engine.kernels.device_table import DeviceTable, SlotEntries
from tests.engine.kernels.rows import draw_row

LAYERS, WIDTH, BLOCK, SLOTS = 2, 40, 16, 4
CPU = torch.device("cpu")
Entries = list[tuple[int, int, float, float, float]]


def new_table(capacity: int = 60, *, statistics: bool = True) -> DeviceTable:
    return DeviceTable(
        slots=SLOTS,
        layers=LAYERS,
        width=WIDTH,
        capacity=capacity,
        block=BLOCK,
        statistics=statistics,
        device=CPU,
    )


def a_row(seed: int, share: float = 0.2, statistic: Statistic | None = None) -> SlotEntries:
    return draw_row(np.random.default_rng(seed), layers=LAYERS, width=WIDTH, share=share, statistic=statistic)


def written(row: SlotEntries) -> Entries:
    layers = np.repeat(np.arange(LAYERS), np.diff(row.offsets))
    coef = np.zeros(len(layers)) if row.coef is None else row.coef
    return list(zip(*(column.tolist() for column in (layers, row.indices, row.mult, row.add, coef)), strict=True))


def read(table: DeviceTable, slot: int) -> Entries:
    """Read a slot block by block, as the kernel does, and check that each neuron lies in its block."""
    buffers, entries = table.buffers, []
    for layer in range(LAYERS):
        for block in range(buffers.blocks):
            first, last = buffers.offsets[slot, layer * buffers.blocks + block :][:2].tolist()
            for entry in range(first, last):
                neuron = int(buffers.neurons[entry])
                assert neuron // BLOCK == block
                coef = 0.0 if buffers.statistics is None else float(buffers.statistics.coef[entry])
                entries.append((layer, neuron, float(buffers.mult[entry]), float(buffers.add[entry]), coef))
    return entries


changes = st.lists(
    st.tuples(st.integers(1, SLOTS), st.none() | st.integers(0, 999), st.sampled_from([0.0, 0.1, 0.2, 0.4])),
    max_size=30,
)


@given(changes, st.integers(30, 60), st.booleans())
def test_slots_hold_what_was_written_last(
    changes: list[tuple[int, int | None, float]], capacity: int, statistics: bool
) -> None:
    table = new_table(capacity, statistics=statistics)
    rows: dict[int, Entries] = {}
    for slot, seed, share in changes:
        if seed is None:
            table.clear(slot)
            rows.pop(slot, None)
        else:
            row = a_row(seed, share, Statistic(name="mean") if statistics else None)
            if len(row.indices) > table.free:
                with pytest.raises(Unavailable, match="the steering table is full"):
                    table.write(slot, row)
            else:
                table.write(slot, row)
                rows[slot] = written(row)
        assert [read(table, slot) for slot in range(SLOTS + 1)] == [rows.get(slot, []) for slot in range(SLOTS + 1)]
        assert table.free == capacity - sum(map(len, rows.values()))


def test_the_pool_is_compacted_if_no_gap_is_large_enough() -> None:
    table = new_table(25)
    rows = {2: first_neurons(10), 3: first_neurons(2), 1: first_neurons(3)}
    for slot, row in rows.items():
        table.write(slot, row)
    table.clear(2)
    table.write(1, rows[1])  # the later of the two rows is now the first in the pool
    rows[4] = first_neurons(20)
    del rows[2]
    table.write(4, rows[4])
    assert {slot: read(table, slot) for slot in rows} == {slot: written(row) for slot, row in rows.items()}
    assert table.free == 0


def first_neurons(count: int) -> SlotEntries:
    values = (np.arange(1, count + 1) / count).astype(np.float32)
    indices = np.arange(count, dtype=np.int32)
    return SlotEntries(offsets=np.array([0, count, count]), indices=indices, mult=values, add=-values)


def test_a_partial_write_shows_the_old_row_until_its_last_part(monkeypatch: pytest.MonkeyPatch) -> None:
    table, send = new_table(200), device_table._send
    old, new = a_row(1), a_row(2)
    table.write(3, old)
    seen = []

    def watched(target: torch.Tensor, values: np.ndarray[Any, Any]) -> None:
        send(target, values)
        seen.append(read(table, 3))

    monkeypatch.setattr(device_table, "_send", watched)
    table.write(3, new)
    assert seen == [written(old)] * (len(seen) - 1) + [written(new)]


def test_addresses_never_change() -> None:
    table = new_table()
    buffers = table.buffers
    assert buffers.statistics is not None
    tensors = [buffers.offsets, buffers.neurons, buffers.mult, buffers.add, *vars(buffers.statistics).values()]
    before = [tensor.data_ptr() for tensor in tensors]
    for seed in range(20):
        table.write(1 + seed % SLOTS, a_row(seed, 0.1))
    assert [tensor.data_ptr() for tensor in tensors] == before


def test_an_addend_of_zero_is_stored_as_minus_zero() -> None:
    table, row = new_table(), a_row(3)
    table.write(1, replace(row, add=np.zeros_like(row.add)))
    assert torch.signbit(table.buffers.add[: len(row.indices)]).all()


def test_the_plan_of_a_statistic_is_written_and_removed_with_its_row() -> None:
    table = new_table()
    assert table.buffers.statistics is not None
    table.write(1, a_row(1, statistic=Statistic(name="percentile", percent=90.0)))
    assert table.buffers.statistics.plan[1, 0, 1] == 35
    assert table.buffers.statistics.weights[1, 0, 0] == pytest.approx(0.1, abs=1e-6)
    table.write(1, a_row(1))
    assert table.buffers.statistics.plan[1, 0, 0] == NONE


def test_vectors_come_and_go_with_their_row() -> None:
    table = DeviceTable(slots=SLOTS, layers=LAYERS, width=WIDTH, capacity=60, block=BLOCK, hidden_size=3, device=CPU)
    vectors = np.array([[0, 0, 0], [1, 2, 3]], dtype=np.float32)
    row = replace(a_row(1), vectors=vectors)
    table.write(2, row)
    assert table.vectors.adds.tolist() == [[0, 0], [0, 0], [0, 1], [0, 0], [0, 0]]
    np.testing.assert_array_equal(table.vectors.values[2, 1], vectors[1])
    table.write(2, a_row(1))
    assert not table.vectors.adds.any()
    table.write(2, row)
    table.clear(2)
    assert not table.vectors.adds.any()
    with pytest.raises(AssertionError):
        new_table().write(1, row)


@pytest.mark.parametrize(
    "wrong",
    [
        {"indices": np.array([5, 5], dtype=np.int32)},
        {"indices": np.array([7, 5], dtype=np.int32)},
        {"indices": np.array([0, WIDTH], dtype=np.int32)},
        {"indices": np.array([-1, 0], dtype=np.int32)},
        {"offsets": np.array([0, 2], dtype=np.int64)},
        {"statistic": Statistic(name="mean")},
    ],
)
def test_a_row_that_would_write_outside_its_token_is_rejected(wrong: dict[str, Any]) -> None:
    pair = np.ones(2, dtype=np.float32)
    offsets, indices = np.array([0, 2, 2], dtype=np.int64), np.array([5, 7], dtype=np.int32)
    row = SlotEntries(offsets=offsets, indices=indices, mult=pair, add=pair)
    table = new_table()
    with pytest.raises(AssertionError):
        table.write(1, replace(row, **wrong))
    with pytest.raises(AssertionError):
        table.write(0, row)


def test_layers_of_different_widths_have_their_own_plans_and_bounds() -> None:
    table = DeviceTable(
        slots=SLOTS, layers=LAYERS, width=(40, 20), capacity=60, block=BLOCK, statistics=True, device=CPU
    )
    one = np.ones(1, dtype=np.float32)

    def row(layer: int, index: int) -> SlotEntries:
        offsets = np.array([0, layer == 0, 1], dtype=np.int64)
        indices = np.array([index], dtype=np.int32)
        return SlotEntries(
            offsets=offsets, indices=indices, mult=one, add=one, statistic=Statistic(name="median"), coef=one
        )

    table.write(1, row(1, 19))
    assert table.buffers.statistics is not None
    assert table.buffers.statistics.plan[1, :, 1].tolist() == [19, 9], "the lower medians of 40 and of 20 values"
    assert read(table, 1) == [(1, 19, 1.0, 1.0, 1.0)]
    with pytest.raises(AssertionError):
        table.write(2, row(1, 20))
    table.write(2, row(0, 20))
