"""Each token gets its slot's vector, and no other token changes a bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from engine.kernels.cpu.residual_cpu import add_vectors

SLOTS, LAYERS, HIDDEN = 4, 3, 37


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_each_token_gets_the_vector_of_its_slot(dtype: torch.dtype) -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(SLOTS, LAYERS, HIDDEN)).astype(np.float32)
    adds = np.ones((SLOTS, LAYERS), dtype=np.bool_)
    adds[0] = adds[2, 1] = False
    slots = np.array([1, 0, 3, 2, 1, 3], dtype=np.int32)
    hidden = torch.from_numpy(rng.normal(size=(len(slots) + 2, HIDDEN)).astype(np.float32)).to(dtype)
    hidden[1, 0] = -0.0
    before = hidden.clone()
    strengths = np.array([1.0, 0.5, 0.25, 1.0, 0.75, 1.0], dtype=np.float32)
    add_vectors(hidden, slots, adds, vectors, 1, strengths)
    for token, slot in enumerate([*slots, 0, 0]):
        if slot in (1, 3):
            expected = before[token].double() + float(strengths[token]) * torch.from_numpy(vectors[slot, 1]).double()
            torch.testing.assert_close(hidden[token], expected.to(dtype))
        else:
            assert hidden[token].view(torch.uint8).equal(before[token].view(torch.uint8))
