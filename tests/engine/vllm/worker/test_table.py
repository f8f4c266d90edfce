"""The rows of a table hold the worker's part of the intervention of each slot."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ampsweep.domain.neurons.layer_widths import LayerWidths
from ampsweep.domain.statistic import Statistic
from engine.steering.edits import Edits
from engine.vllm.worker.table import CpuTable, Shard, TableRows

LAYERS, WIDTH = 4, 10
WHOLE = Shard.of_rank(range(LAYERS), LayerWidths(LAYERS, WIDTH))


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


Entry = tuple[int, float, float]


def entries(rows: TableRows, slot: int, layer: int) -> list[Entry]:
    entries = slice(rows.starts[slot, layer], rows.starts[slot, layer + 1])
    return list(
        zip(rows.indices[entries].tolist(), rows.mult[entries].tolist(), rows.add[entries].tolist(), strict=True)
    )


def everything(rows: TableRows) -> list[list[Entry]]:
    slots, layers = rows.takes.shape
    return [entries(rows, slot, layer) for slot in range(slots) for layer in range(layers)]


def test_slot_0_and_a_cleared_slot_have_no_entries() -> None:
    table = CpuTable(layers=LAYERS, width=WIDTH, capacity=2)
    for slot in (1, 2):
        table.write(slot, WHOLE.cut(edits(slot)))
    table.clear(1)
    starts = table.rows().starts
    assert (starts[[0, 1], 0] == starts[[0, 1], -1]).all()
    assert starts[2, -1] - starts[2, 0] == len(edits(2).indices)


def test_a_snapshot_of_the_rows_is_unaffected_by_later_writes() -> None:
    table = CpuTable(layers=LAYERS, width=WIDTH, capacity=3)
    seen: list[tuple[TableRows, list[list[Entry]]]] = []
    for number in range(40):
        slot = 1 + number % 3
        if number >= 3:
            table.clear(slot)
            seen.append((table.rows(), everything(table.rows())))
        table.write(slot, WHOLE.cut(edits(number)))
        seen.append((table.rows(), everything(table.rows())))
    for rows, then in seen:
        assert everything(rows) == then
    assert len({str(then) for _, then in seen}) == len(seen), "a step did not see the latest change"


def test_the_table_does_not_grow_with_removed_rows() -> None:
    table = CpuTable(layers=LAYERS, width=WIDTH, capacity=2)
    row = WHOLE.cut(edits(1))
    table.write(1, row)
    for _ in range(100):
        table.write(2, row)
        table.clear(2)
    assert len(table.rows().indices) <= 4 * len(row.indices)


def test_a_cut_keeps_the_statistic_with_the_coefficients_of_its_neurons() -> None:
    whole = edits(1)
    coef = np.arange(len(whole.indices), dtype=np.float32)
    cut = Shard(layers=(1, 3), neurons=(range(4, 7),) * 2).cut(
        replace(whole, statistic=Statistic(name="std"), coef=coef)
    )
    inside = [
        entry for layer in (1, 3) for entry in range(*whole.offsets[layer : layer + 2]) if 4 <= whole.indices[entry] < 7
    ]
    assert cut.statistic == Statistic(name="std")
    np.testing.assert_array_equal(cut.coef, coef[inside])


def test_a_cut_keeps_the_vectors_of_its_layers_whatever_its_neurons() -> None:
    vectors = np.arange(LAYERS * 3, dtype=np.float32).reshape(LAYERS, 3)
    cut = Shard(layers=(0, 2), neurons=(range(4, 7),) * 2).cut(replace(edits(1), vectors=vectors))
    np.testing.assert_array_equal(cut.vectors, vectors[[0, 2]])


def test_vectors_outlive_a_compaction_and_end_with_their_slot() -> None:
    table = CpuTable(layers=LAYERS, width=WIDTH, capacity=2)
    vectors = np.zeros((LAYERS, 3), dtype=np.float32)
    vectors[1] = 5.0
    table.write(1, WHOLE.cut(replace(edits(1), vectors=vectors)))
    before = table.rows()
    for number in range(20):
        table.write(2, WHOLE.cut(edits(number)))
        rows = table.rows()
        assert rows.vectors is not None
        assert np.argwhere(rows.adds).tolist() == [[1, 1]]
        np.testing.assert_array_equal(rows.vectors[1], vectors)
        table.clear(2)
    table.clear(1)
    assert not table.rows().adds.any()
    assert before.adds[1, 1], "a step did not keep what it saw"


def test_all_shards_of_a_layer_know_that_its_statistic_is_taken() -> None:
    whole = edits(1)
    coef = np.zeros(len(whole.indices), dtype=np.float32)
    coef[whole.entries(2)][-1] = 1.0
    statistic = Statistic.parse("p97.5")
    for first in (0, 5):
        table = CpuTable(layers=LAYERS, width=WIDTH, capacity=2)
        row = Shard(layers=(0, 1, 2, 3), neurons=(range(first, first + 5),) * 4).cut(
            replace(whole, statistic=statistic, coef=coef)
        )
        table.write(2, row)
        rows = table.rows()
        assert np.argwhere(rows.takes).tolist() == [[2, 2]]
        plan = statistic.plan(WIDTH)
        assert rows.plan[2].tolist() == [[plan.kind, *plan.ranks]] * LAYERS
        assert rows.weights[2, 3].tolist() == pytest.approx(plan.weights)


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
    shard = Shard(layers=tuple(sorted(layers)), neurons=(range(first, first + width),) * len(layers))
    table = CpuTable(layers=len(shard.layers), width=WIDTH, capacity=3)
    for index, key in enumerate(keys):
        slot = 1 + index % 3
        if index >= 3:
            table.clear(slot)
        table.write(slot, shard.cut(edits(key)))
        whole = edits(key)
        for position, layer in enumerate(shard.layers):
            in_layer = whole.entries(layer)
            indices, mult, add = whole.indices[in_layer], whole.mult[in_layer], whole.add[in_layer]
            inside = (indices >= first) & (indices < first + width)
            expected = zip((indices - first)[inside].tolist(), mult[inside].tolist(), add[inside].tolist(), strict=True)
            assert entries(table.rows(), slot, position) == list(expected)


def test_ranks_have_equal_shares_of_layers_of_different_widths() -> None:
    widths = LayerWidths(3, (4, 8, 6))
    shards = [Shard.of_rank(range(1, 3), widths, rank=rank, ranks=2) for rank in range(2)]
    assert [shard.neurons for shard in shards] == [(range(4), range(3)), (range(4, 8), range(3, 6))]
    assert shards[0].layers == (1, 2)
    assert shards[1].widths == LayerWidths(2, (4, 3))
    one = np.ones(4, dtype=np.float32)
    whole = Edits(offsets=np.array([0, 1, 3, 4]), indices=np.array([3, 2, 7, 5], dtype=np.int32), mult=one, add=one)
    cuts = [shard.cut(whole) for shard in shards]
    assert [cut.offsets.tolist() for cut in cuts] == [[0, 1, 1], [0, 1, 2]]
    assert [cut.indices.tolist() for cut in cuts] == [[2], [3, 2]]


def test_a_layer_with_an_mlp_beside_its_experts_has_two_rows() -> None:
    shard = Shard(layers=(0, 1, 1), neurons=(range(4), range(6), range(6, 11)), experts=(1, 2, 1))
    assert (shard.widths, shard.first_rows) == (LayerWidths(3, (4, 6, 5)), [0, 1])
    one = np.ones(5, dtype=np.float32)
    indices = np.array([3, 2, 5, 6, 10], dtype=np.int32)
    vectors = np.array([[1.0, 2.0], [3.0, 4.0]], dtype=np.float32)
    cut = shard.cut(Edits(offsets=np.array([0, 1, 5]), indices=indices, mult=one, add=one, vectors=vectors))
    assert cut.offsets.tolist() == [0, 1, 2, 3, 5]  # the layer, the two experts, the MLP
    assert cut.indices.tolist() == [3, 2, 2, 0, 4]
    assert cut.vectors is not None
    assert cut.vectors[shard.first_rows].tolist() == vectors.tolist()


def test_a_statistic_is_planned_for_the_width_of_each_layer() -> None:
    table = CpuTable(layers=2, width=(40, 20), capacity=1)
    one = np.ones(2, dtype=np.float32)
    indices = np.zeros(2, dtype=np.int32)
    statistic = Statistic.parse("median")
    row = Edits(offsets=np.array([0, 1, 2]), indices=indices, mult=one, add=one, statistic=statistic, coef=one)
    table.write(1, Shard.of_rank(range(2), LayerWidths(2, (40, 20))).cut(row))
    assert table.rows().plan[1, :, 1].tolist() == [19, 9]
