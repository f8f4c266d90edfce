"""The parts of a model divided by layers and neurons are joined to the whole, in any order."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ampsweep.domain.neurons.layer_widths import LayerWidths
from engine.vllm.worker.outputs.recorded_part import RecordedPart, join_parts, join_residual_counts
from engine.vllm.worker.table import Shard

LAYERS, WIDTH = 5, 12
KEYS = ("a",)
RESIDUAL = np.arange(LAYERS * 3, dtype=np.float64).reshape(LAYERS, 3)


def parts_of(counts: np.ndarray, sums: np.ndarray, *, stages: int, ranks: int) -> list[RecordedPart]:
    """Divide recordings as a pipeline of `stages` stages with `ranks` ranks each does."""
    width = WIDTH // ranks
    return [
        RecordedPart(
            keys=KEYS,
            shard=Shard(
                layers=tuple(map(int, layers)), neurons=(range(rank * width, (rank + 1) * width),) * len(layers)
            ),
            counts=counts[layers, rank * width : (rank + 1) * width],
            sums=sums[layers, rank * width : (rank + 1) * width],
            residual=RESIDUAL[layers],
        )
        for layers in np.array_split(np.arange(LAYERS), stages)
        for rank in range(ranks)
    ]


@given(stages=st.integers(1, LAYERS), ranks=st.sampled_from([1, 2, 3, 4]), order=st.randoms())
def test_parts_in_any_order_are_joined_to_the_whole(stages: int, ranks: int, order: random.Random) -> None:
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 100, (LAYERS, WIDTH)).astype(np.int32)
    sums = rng.normal(size=(LAYERS, WIDTH)).astype(np.float32)
    parts = parts_of(counts, sums, stages=stages, ranks=ranks)
    order.shuffle(parts)
    joined = join_parts(parts, LayerWidths(LAYERS, WIDTH))
    np.testing.assert_array_equal(joined[0], counts)
    np.testing.assert_array_equal(joined[1], sums)
    np.testing.assert_array_equal(joined[2], RESIDUAL)


def test_residual_counts_of_pipeline_stages_are_joined_in_any_order() -> None:
    zeros, counts = np.zeros((LAYERS, WIDTH)), np.arange(LAYERS * 3, dtype=np.int32).reshape(LAYERS, 3)
    plain = parts_of(zeros, zeros, stages=2, ranks=2)
    counted = [replace(part, residual_counts=counts[list(part.shard.layers)]) for part in plain]
    np.testing.assert_array_equal(join_residual_counts(counted[::-1], layers=LAYERS), counts)
    assert join_residual_counts(plain, layers=LAYERS) is None


@pytest.mark.parametrize("ranks", [1, 2])
def test_sums_that_were_not_requested_are_none(ranks: int) -> None:
    counts = np.ones((LAYERS, WIDTH), dtype=np.int32)
    parts = [replace(part, sums=None) for part in parts_of(counts, counts, stages=1, ranks=ranks)]
    joined = join_parts(parts, LayerWidths(LAYERS, WIDTH))
    np.testing.assert_array_equal(joined[0], counts)
    assert joined[1] is None


def test_a_missing_or_duplicate_part_is_detected() -> None:
    zeros = np.zeros((LAYERS, WIDTH))
    parts = parts_of(zeros, zeros, stages=2, ranks=2)
    for wrong in (parts[1:], [*parts, parts[0]], [parts[0], parts[0], *parts[2:]]):
        with pytest.raises(AssertionError, match="each neuron once"):
            join_parts(wrong, LayerWidths(LAYERS, WIDTH))


def test_a_layer_with_two_rows_is_joined_to_one() -> None:
    widths = LayerWidths(2, 6)
    shard = Shard(layers=(0, 0, 1, 1), neurons=(range(4), range(4, 6)) * 2, experts=(2, 1, 2, 1))
    counts = np.arange(12, dtype=np.int32)
    first = RecordedPart(keys=KEYS, shard=shard, counts=counts, sums=counts.astype(np.float32), residual=RESIDUAL[:2])
    joined_counts, joined_sums, residual = join_parts([first], widths)
    assert joined_sums is not None
    assert joined_counts.tolist() == joined_sums.tolist() == counts.reshape(2, 6).tolist()
    np.testing.assert_array_equal(residual, RESIDUAL[:2])
    stages = [
        RecordedPart(
            keys=KEYS,
            shard=Shard(layers=(layer, layer), neurons=shard.neurons[:2], experts=(2, 1)),
            counts=counts.reshape(2, 6)[layer],
            sums=None,
            residual=RESIDUAL[[layer]],
            residual_counts=np.full((1, 2), layer + 1, dtype=np.int32),
        )
        for layer in (1, 0)
    ]
    joined = join_residual_counts(stages, layers=2)
    assert joined is not None
    assert joined.tolist() == [[1, 1], [2, 2]]
    joined_counts, _, residual = join_parts(stages, widths)
    assert joined_counts.tolist() == counts.reshape(2, 6).tolist()
    np.testing.assert_array_equal(residual, RESIDUAL[:2])


def test_layers_of_different_widths_are_joined_to_one_axis() -> None:
    widths = LayerWidths(3, (2, 4, 6))
    counts = np.arange(12, dtype=np.int32)
    numbers: dict[tuple[tuple[int, ...], int], list[int]] = {
        (layers, rank): [] for layers in ((0,), (1, 2)) for rank in (0, 1)
    }
    first = 0
    for layer, width in enumerate((2, 4, 6)):
        for rank in (0, 1):
            share = range(first + rank * width // 2, first + (rank + 1) * width // 2)
            numbers[(0,) if layer == 0 else (1, 2), rank].extend(share)
        first += width
    parts = [
        RecordedPart(
            keys=KEYS,
            shard=Shard.of_rank(range(layers[0], layers[-1] + 1), widths, rank=rank, ranks=2),
            counts=counts[of_rank].reshape((1, 1) if layers == (0,) else -1),
            sums=None,
            residual=RESIDUAL[list(layers)],
        )
        for (layers, rank), of_rank in numbers.items()
    ]
    joined = join_parts(parts, widths)
    np.testing.assert_array_equal(joined[0], counts)
    np.testing.assert_array_equal(joined[2], RESIDUAL[:3])
