"""The rows of sentences: taken together in the order of their keys, added up in groups, cleared, and used again.

A GPU may run a later step when they are taken, for which the host need not wait.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import cast

import numpy as np
import pytest
import torch

from ampsweep.domain.neurons.layer_widths import LayerWidths
from engine.kernels.host_copies import SideReads
from engine.vllm.worker.outputs.recording import Recording
from engine.vllm.worker.table import Shard
from tests.engine.vllm.taken_parts import taken_parts

ROWS, HIDDEN = 4, 3
ASKED = {"a": (True, False), "b": (False, True), "c": (True, True), "d": (False, False)}
"""Whether sums and counts of the residual stream are requested, by sentence."""


def filled(widths: LayerWidths) -> tuple[Recording, dict[str, int]]:
    """Return a recording in which every number of a row is the row's number plus 1, and the rows of the sentences."""
    shard = Shard.of_rank(range(widths.layers), widths)
    recording = Recording(shard, rows=ROWS, hidden_size=HIDDEN, device=torch.device("cpu"))
    rows = {
        key: recording.open(key, sums=sums, residual_counts=residual_counts)
        for key, (sums, residual_counts) in ASKED.items()
    }
    assert recording.residual_counts is not None
    for values in (recording.counts, recording.sums, recording.residual, recording.residual_counts):
        values += torch.arange(1, ROWS + 1)[:, None].to(values.dtype)
    return recording, rows


@pytest.mark.parametrize("widths", [LayerWidths(2, 5), LayerWidths(2, (5, 2)), LayerWidths(2, (0, 4))])
def test_sentences_are_taken_together_in_the_order_of_their_keys(widths: LayerWidths) -> None:
    recording, rows = filled(widths)
    for key, part in zip("cbda", taken_parts(recording, "cbda"), strict=True):
        sums, residual_counts = ASKED[key]
        expected = rows[key] + 1
        np.testing.assert_array_equal(part.counts, np.full(widths.shape, expected))
        np.testing.assert_array_equal(part.residual, np.full((2, HIDDEN), expected))
        assert (part.sums is not None) == sums
        assert (part.residual_counts is not None) == residual_counts
        if part.sums is not None:
            np.testing.assert_array_equal(part.sums, np.full(widths.shape, expected))
        if part.residual_counts is not None:
            np.testing.assert_array_equal(part.residual_counts, np.full((2, HIDDEN), expected))
    assert {recording.open(key, sums=False) for key in "wxyz"} == set(range(ROWS)), "all rows are free again"


def test_what_was_taken_does_not_change_with_the_row() -> None:
    recording, rows = filled(LayerWidths(2, 5))
    (part,) = taken_parts(recording, "c")
    recording.clear([rows["c"]])
    assert part.sums is not None
    assert part.residual_counts is not None
    for values in (part.counts, part.sums, part.residual, part.residual_counts):
        assert (values == rows["c"] + 1).all()


def test_sentences_are_in_one_piece_and_not_copied_again() -> None:
    recording, _ = filled(LayerWidths(2, 5))
    one, other = taken_parts(recording, "ac")
    for part in (one, other):
        assert part.sums is not None
        assert all(values.flags.c_contiguous for values in (part.counts, part.sums, part.residual))
    assert one.counts.base is other.counts.base is not None


def test_only_the_rows_of_sentences_that_start_are_cleared() -> None:
    recording, rows = filled(LayerWidths(2, 5))
    recording.clear([rows["b"], rows["d"]])
    for key, part in zip("abcd", taken_parts(recording, "abcd"), strict=True):
        expected = 0 if key in "bd" else rows[key] + 1
        assert (part.counts == expected).all()
        assert (part.residual == expected).all()


def test_the_tokens_that_reached_each_neuron_are_taken_with_their_sentence() -> None:
    """A layer of three experts with two neurons each, and one without experts."""
    shard = Shard(layers=(0, 1), neurons=(range(6), range(6)), experts=(3, 1))
    recording = Recording(shard, rows=ROWS, hidden_size=HIDDEN, device=torch.device("cpu"))
    rows = {key: recording.open(key, sums=False) for key in "ab"}
    assert recording.reached is not None
    recording.reached += torch.arange(ROWS, dtype=torch.int32)[:, None]
    recording.reached[0] += torch.tensor([0, 10, 20], dtype=torch.int32)
    for key, part in zip("ba", taken_parts(recording, "ba"), strict=True):
        row = rows[key]
        expected = [[row, row, row + 10, row + 10, row + 20, row + 20], [row] * 6]
        assert part.reached is not None
        assert part.reached.tolist() == expected


GROUPED = {"a": "en", "b": None, "c": "fr", "d": "en", "e": "fr", "f": "en", "g": "de"}
"""The groups of sentences, in the order in which they are taken, without `f`."""


@pytest.mark.parametrize("widths", [LayerWidths(2, 5), LayerWidths(2, (5, 2))])
@pytest.mark.parametrize("residual_counts", [False, True])
def test_sentences_of_a_group_that_are_taken_together_are_added_up(widths: LayerWidths, residual_counts: bool) -> None:
    rng = np.random.default_rng(0)
    shard = Shard.of_rank(range(2), widths)
    recording = Recording(shard, rows=len(GROUPED), hidden_size=HIDDEN, device=torch.device("cpu"))
    rows = {
        key: recording.open(key, sums=group is None, residual_counts=residual_counts, group=group)
        for key, group in GROUPED.items()
    }
    exists = np.arange(5) < np.array(widths.by_layer)[:, None]
    counts = rng.integers(0, 9, (2, len(rows), 5)).astype(np.int32) * exists[:, None]
    residual = rng.normal(size=(2, len(rows), HIDDEN)).astype(np.float32)
    recording.counts.copy_(torch.from_numpy(counts))
    recording.sums.copy_(torch.from_numpy(-counts))
    recording.residual.copy_(torch.from_numpy(residual))
    if recording.residual_counts is not None:
        recording.residual_counts.copy_(torch.from_numpy((residual > 0).astype(np.int32)))
    together = {"a": "ad", "b": "b", "c": "ce", "d": "", "e": "", "g": "g"}
    for (first, keys), part in zip(together.items(), recording.take([*together]), strict=True):
        if not keys:
            assert part is None
            continue
        assert part is not None
        assert part.keys == tuple(keys)
        of_keys = [rows[key] for key in keys]
        assert part.counts.dtype == np.int32
        np.testing.assert_array_equal(part.counts.ravel(), counts[:, of_keys].sum(1)[exists])
        assert part.residual.dtype == np.float64
        np.testing.assert_array_equal(part.residual, residual.astype(np.float64)[:, of_keys].sum(1))
        assert (part.sums is not None) == (first == "b")
        assert (part.residual_counts is not None) == residual_counts
        if part.sums is not None:
            np.testing.assert_array_equal(part.sums.ravel(), -counts[:, rows["b"]][exists])
        if part.residual_counts is not None:
            np.testing.assert_array_equal(part.residual_counts, (residual > 0)[:, of_keys].sum(1))
    (later,) = recording.take(["f"])
    assert later is not None
    assert later.keys == ("f",), "what was taken earlier is not added again"
    np.testing.assert_array_equal(later.counts.ravel(), counts[:, rows["f"]][exists])
    assert {recording.open(key, sums=False) for key in "tuvwxyz"} == set(range(len(GROUPED)))


def test_a_dropped_sentence_is_not_added_to_its_group() -> None:
    recording = Recording(Shard.of_rank(range(1), LayerWidths(1, 2)), rows=3, hidden_size=1, device=torch.device("cpu"))
    for value, key in enumerate("abc", start=1):
        recording.counts[:, recording.open(key, sums=False, group="en")] = value
    recording.drop("b")
    part, nothing = recording.take(["a", "c"])
    assert part is not None
    assert part.keys == ("a", "c")
    assert part.counts.tolist() == [[4, 4]]
    assert nothing is None


def test_the_tokens_that_reached_the_experts_are_added_up() -> None:
    shard = Shard(layers=(0,), neurons=(range(4),), experts=(2,))
    recording = Recording(shard, rows=2, hidden_size=1, device=torch.device("cpu"))
    for key in "ab":
        recording.open(key, sums=False, group="en")
    assert recording.reached is not None
    recording.reached[0] = torch.tensor([[1, 20], [3, 40]], dtype=torch.int32)
    part, _ = recording.take(["a", "b"])
    assert part is not None
    assert part.reached is not None
    assert part.reached.tolist() == [[4, 4, 60, 60]]


def test_activations_of_a_group_are_not_summed() -> None:
    recording, _ = filled(LayerWidths(1, 2))
    recording.drop("a")
    with pytest.raises(AssertionError, match="not added up"):
        recording.open("e", sums=True, group="en")


class NotedReads:
    """Stands for `SideReads` on a GPU: numbers the marks, and notes for which ones each read waits."""

    def __init__(self) -> None:
        self.marks = 0
        self.waited: list[set[int]] = []

    def mark(self) -> int:
        self.marks += 1
        return self.marks

    def read(self, values: Callable[[], Iterable[torch.Tensor]], *, after: Iterable[int]) -> list[torch.Tensor]:
        self.waited.append(set(after))
        return [*values()]


def noted(recording: Recording) -> NotedReads:
    reads = NotedReads()
    recording._reads = cast("SideReads", reads)
    return reads


def test_the_host_waits_for_the_step_that_recorded_a_sentence_and_not_for_a_later_one() -> None:
    recording, rows = filled(LayerWidths(2, 5))
    reads = noted(recording)
    recording.begin_step([rows["a"], rows["b"]])
    recording.begin_step([rows["b"], rows["c"]])
    assert reads.marks == 1, "the first step has been launched"
    recording.take(["a"])
    recording.begin_step([])
    recording.begin_step([])
    recording.take(["c", "b"])
    assert reads.waited == [{1}, {2}]
    assert reads.marks == 2, "steps that record nothing are not marked"


@pytest.mark.parametrize("steps", [[], [["d"]], [["d"], [], ["d"]]], ids=["no step", "the last step", "again"])
def test_the_host_waits_for_everything_if_no_step_has_begun_since(steps: list[list[str]]) -> None:
    """A sentence without a recorded token was zeroed nevertheless, in a step that nothing marks."""
    recording, rows = filled(LayerWidths(2, 5))
    reads = noted(recording)
    for recorded in steps:
        recording.begin_step([rows[key] for key in recorded])
    marks = reads.marks
    recording.take(["d"])
    assert reads.waited == [{marks + 1}]


def test_the_marks_of_a_row_end_with_its_sentence() -> None:
    recording, rows = filled(LayerWidths(2, 5))
    reads = noted(recording)
    recording.begin_step([rows["a"]])
    recording.begin_step([])
    recording.drop("a")
    assert recording.open("e", sums=False) == rows["a"]
    recording.take(["e"])
    assert reads.waited == [{2}]


def test_nothing_is_queued_on_a_cpu() -> None:
    values = torch.arange(3)
    reads = SideReads(torch.device("cpu"))
    (read,) = reads.read(lambda: [values], after=[reads.mark()])
    assert read is values
