"""Padding has slot 0, even after a longer step."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from engine.kernels.token_slots import TokenSlots

CAPACITY = 12


@given(st.lists(st.lists(st.integers(0, 3), max_size=CAPACITY), max_size=6))
def test_the_buffer_holds_the_last_step_and_zeros(steps: list[list[int]]) -> None:
    slots = TokenSlots(capacity=CAPACITY, device=torch.device("cpu"))
    address = slots.buffer.data_ptr()
    for step in steps:
        slots.write(np.array(step, dtype=np.int32))
        assert slots.buffer.tolist() == step + [0] * (CAPACITY - len(step))
    assert slots.buffer.data_ptr() == address
