"""The rows of sentences: taken together in the order of their keys, cleared together, and used again.

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
    keys = list("cbda")
    for key, part in zip(keys, recording.take(keys), strict=True):
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
    (part,) = recording.take(["c"])
    recording.clear([rows["c"]])
    assert part.sums is not None
    assert part.residual_counts is not None
    for values in (part.counts, part.sums, part.residual, part.residual_counts):
        assert (values == rows["c"] + 1).all()


def test_sentences_are_in_one_piece_and_not_copied_again() -> None:
    recording, _ = filled(LayerWidths(2, 5))
    one, other = recording.take(["a", "c"])
    for part in (one, other):
        assert part.sums is not None
        assert all(values.flags.c_contiguous for values in (part.counts, part.sums, part.residual))
    assert one.counts.base is other.counts.base is not None


def test_only_the_rows_of_sentences_that_start_are_cleared() -> None:
    recording, rows = filled(LayerWidths(2, 5))
    recording.clear([rows["b"], rows["d"]])
    for key, part in zip("abcd", recording.take(list("abcd")), strict=True):
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
    for key, part in zip("ba", recording.take(["b", "a"]), strict=True):
        row = rows[key]
        expected = [[row, row, row + 10, row + 10, row + 20, row + 20], [row] * 6]
        assert part.reached is not None
        assert part.reached.tolist() == expected


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
