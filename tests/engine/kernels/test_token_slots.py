"""Padding has slot 0, even after a longer step, and tokens have the strengths of their step."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from engine.kernels.token_slots import TokenSlots

CAPACITY = 12


@given(st.lists(st.tuples(st.lists(st.integers(0, 3), max_size=CAPACITY), st.booleans()), max_size=6))
def test_the_buffers_hold_the_last_step(steps: list[tuple[list[int], bool]]) -> None:
    tokens = TokenSlots(capacity=CAPACITY, device=torch.device("cpu"))
    addresses = tokens.buffer.data_ptr(), tokens.strengths.data_ptr()
    for step, (slots, decays) in enumerate(steps):
        strengths = [1.0 / (2 + step + token) if decays else 1.0 for token in range(len(slots))]
        tokens.write(np.array(slots, dtype=np.int32), np.array(strengths, dtype=np.float32) if decays else None)
        assert tokens.buffer.tolist() == slots + [0] * (CAPACITY - len(slots))
        if any(slots):
            expected = torch.tensor(strengths + [1.0] * (CAPACITY - len(slots)))
            assert torch.equal(tokens.strengths, expected)
    assert addresses == (tokens.buffer.data_ptr(), tokens.strengths.data_ptr())
