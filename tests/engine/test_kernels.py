"""Both kernels against a plain loop in float64: any tokens, slots, overlaps and empty rows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from engine.kernels import steer_numba, steer_torch

LAYERS, WIDTH = 2, 7
SLOTS = 3


class Rows:
    """Random entries for slots 1 to SLOTS, a few of them empty."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.starts = np.zeros((SLOTS + 1, LAYERS + 1), dtype=np.int64)
        indices: list[int] = []
        for slot in range(1, SLOTS + 1):
            self.starts[slot, 0] = len(indices)
            for layer in range(LAYERS):
                indices += np.flatnonzero(rng.random(WIDTH) < rng.choice([0.0, 0.5, 1.0])).tolist()
                self.starts[slot, layer + 1] = len(indices)
        self.indices = np.array(indices, dtype=np.int32)
        self.mult = rng.normal(size=len(indices)).astype(np.float32)
        self.add = rng.normal(size=len(indices)).astype(np.float32)


def reference(
    up: NDArray[np.float32], out: NDArray[np.float32], slots: NDArray[np.int32], rows: Rows, layer: int
) -> NDArray[np.float64]:
    result = out.astype(np.float64)
    for token, slot in enumerate(slots):
        for entry in range(rows.starts[slot, layer], rows.starts[slot, layer + 1]):
            neuron = rows.indices[entry]
            result[token, neuron] = (
                float(rows.mult[entry]) * out[token, neuron] + float(rows.add[entry]) * up[token, neuron]
            )
    return result


batches = st.tuples(st.integers(0, 2**32 - 1), st.integers(1, 9), st.integers(0, LAYERS - 1), st.integers(0, 3))


def make(
    seed: int, tokens: int, padding: int
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int32], Rows]:
    rng = np.random.default_rng(seed)
    gate_up = rng.normal(size=(tokens + padding, 2 * WIDTH)).astype(np.float32)
    out = rng.normal(size=(tokens + padding, WIDTH)).astype(np.float32)
    return gate_up, out, rng.integers(0, SLOTS + 1, tokens).astype(np.int32), Rows(rng)


@given(batches)
@settings(deadline=None)
def test_numba_kernel(batch: tuple[int, int, int, int]) -> None:
    seed, tokens, layer, padding = batch
    gate_up, out, slots, rows = make(seed, tokens, padding)
    up = gate_up[:, WIDTH:]
    expected = reference(up, out, slots, rows, layer)
    steer_numba.steer_gated(up, out, slots, rows.starts, layer, rows.indices, rows.mult, rows.add)
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-6)


@given(batches)
@settings(deadline=None)
def test_torch_kernel(batch: tuple[int, int, int, int]) -> None:
    seed, tokens, layer, padding = batch
    gate_up, out, slots, rows = make(seed, tokens, padding)
    expected = reference(gate_up[:, WIDTH:], out, slots, rows, layer)
    steered = torch.from_numpy(out)
    entries = steer_torch.batch_entries(
        slots, rows.starts, layer, rows.indices, rows.mult, rows.add, device=torch.device("cpu")
    )
    steer_torch.steer_gated(torch.from_numpy(gate_up)[:, WIDTH:], steered, entries)
    np.testing.assert_allclose(steered.numpy(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_neutral_entry_leaves_every_bit(dtype: torch.dtype) -> None:
    gate_up, out, slots, rows = make(seed=5, tokens=9, padding=0)
    rows.mult[:], rows.add[:] = 1.0, 0.0
    before = torch.from_numpy(out).to(dtype)
    after = before.clone()
    entries = steer_torch.batch_entries(slots, rows.starts, 0, rows.indices, rows.mult, rows.add, torch.device("cpu"))
    steer_torch.steer_gated(torch.from_numpy(gate_up).to(dtype)[:, WIDTH:], after, entries)
    assert torch.equal(before, after)
    if dtype == torch.float32:
        kept = out.copy()
        steer_numba.steer_gated(gate_up[:, WIDTH:], out, slots, rows.starts, 0, rows.indices, rows.mult, rows.add)
        np.testing.assert_array_equal(kept, out)
