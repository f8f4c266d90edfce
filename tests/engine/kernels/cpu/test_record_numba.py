"""Compares the counting kernel with a plain sum: spans of any length, rows in any order, gates of exactly 0."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.kernels.cpu.record_numba import count_positive

WIDTH = 37


@pytest.mark.parametrize("gated", [False, True])
@given(lengths=st.lists(st.integers(0, 9), min_size=1, max_size=6), seed=st.integers(0, 2**32 - 1))
def test_rows_count_the_tokens_of_their_spans(gated: bool, lengths: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.integers(-1, 2, (sum(lengths) + 1, WIDTH * (1 + gated))).astype(np.float32)
    counts = rng.integers(0, 5, (len(lengths) + 1, WIDTH + 3)).astype(np.int32)
    ends = np.cumsum(lengths)
    spans = np.stack([rng.permutation(len(counts))[: len(lengths)], ends - lengths, ends], axis=1)
    expected = counts.copy()
    for row, first, end in spans:
        expected[row, :WIDTH] += (x[first:end, :WIDTH] > 0).sum(axis=0)
    count_positive(x, spans, counts, WIDTH)
    np.testing.assert_array_equal(counts, expected)
