"""Compares the CPU kernels with float64 over shapes, slots, overlaps, empty rows and padding."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ampsweep.domain.statistic import Statistic
from benchmarks.kernels.float64_activation import activation_in_float64
from engine.kernels.activation import activate
from engine.kernels.cpu import steer_numba, steer_torch
from engine.kernels.device_table import SlotEntries
from engine.vllm.worker.table import CpuTable
from tests.engine.kernels.rows import draw_row, neutral, steered, taken

LAYERS, SLOTS = 3, 5
ROUNDING = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}
Kernel = Literal["numba", "torch"]


@dataclass(frozen=True, kw_only=True)
class Case:
    """A batch of `tokens` steered tokens and `padding` more; each slot changes `share` of the neurons."""

    seed: int
    tokens: int
    padding: int
    width: int
    layer: int
    share: float
    gated: bool
    statistic: Statistic | None


words = st.sampled_from(["mean", "std", "median", "max", "iqr", "mad", "p0", "p12.5", "p97.5", "p100"])
cases = st.builds(
    Case,
    seed=st.integers(0, 2**32 - 1),
    tokens=st.integers(0, 6),
    padding=st.integers(0, 2),
    width=st.integers(2, 70),
    layer=st.integers(0, LAYERS - 1),
    share=st.sampled_from([0.0, 0.05, 0.3, 1.0]),
    gated=st.booleans(),
    statistic=st.none() | words.map(Statistic.parse),
)
kernels = st.sampled_from([("numba", torch.float32), *(("torch", dtype) for dtype in ROUNDING)])


class Batch:
    """The tensors of a case. Slot 2 has no entries, the last slot is never written, and padding has no slot."""

    def __init__(self, case: Case, dtype: torch.dtype) -> None:
        rng = np.random.default_rng(case.seed)
        self.case = case
        shape = (case.tokens + case.padding, case.width * (2 if case.gated else 1))
        self.x = torch.from_numpy(rng.normal(size=shape) * 3).to(dtype)
        self.slots = rng.integers(0, SLOTS + 1, case.tokens).astype(np.int32)
        self.strengths = np.where(rng.random(case.tokens) < 0.5, 1.0, rng.random(case.tokens)).astype(np.float32)
        self.rows = {
            slot: draw_row(
                rng,
                layers=LAYERS,
                width=case.width,
                share=0.0 if slot == 2 else case.share,
                statistic=case.statistic if slot % 2 else None,
            )
            for slot in range(1, SLOTS)
        }

    def plain(self) -> torch.Tensor:
        gate, up = self.x[:, : self.case.width], self.x[:, self.case.width :]
        return activate("silu", gate) * (up if self.case.gated else 1)

    def run(self, kernel: Kernel, rows: dict[int, SlotEntries], statistic: torch.Tensor) -> torch.Tensor:
        table = CpuTable(layers=LAYERS, width=self.case.width, capacity=SLOTS)
        for slot, row in rows.items():
            table.write(slot, replace(row, takes=np.ones(LAYERS, dtype=np.bool_)))
        held, out, up = table.rows(), self.plain(), self.x[:, self.case.width :]
        arrays = (self.slots, held.starts, self.case.layer, held.indices, held.mult, held.add, held.coef)
        if kernel == "torch":
            entries = steer_torch.batch_entries(*arrays, statistic, self.strengths)
            if self.case.gated:
                steer_torch.steer_gated(up, out, entries)
            else:
                steer_torch.steer_plain(out, entries)
        elif self.case.gated:
            steer_numba.steer_gated(up.numpy(), out.numpy(), *arrays, statistic.numpy(), self.strengths)
        else:
            steer_numba.steer_plain(out.numpy(), *arrays, statistic.numpy(), self.strengths)
        return out

    def taken(self) -> torch.Tensor:
        """Return the statistic of each token, or NaN if it uses none and the kernel must not read it."""
        active = activation_in_float64(self.x[:, : self.case.width], "silu")
        wanted = [self.rows[slot].statistic if slot in self.rows else None for slot in self.slots.tolist()]
        statistics = [
            np.nan if statistic is None else taken(active[token], statistic) for token, statistic in enumerate(wanted)
        ]
        return torch.tensor(statistics, dtype=torch.float32)


@given(cases, kernels)
@settings(max_examples=200)
def test_the_kernels_agree_with_float64(case: Case, chosen: tuple[Kernel, torch.dtype]) -> None:
    kernel, dtype = chosen
    batch = Batch(case, dtype)
    slots = [*batch.slots.tolist(), *[0] * case.padding]
    strengths = torch.from_numpy(np.pad(batch.strengths, (0, case.padding)))
    expected = steered(batch.x, slots, batch.rows, case.layer, name="silu", gated=case.gated, strengths=strengths)
    out = batch.run(kernel, batch.rows, batch.taken())
    # the model has rounded activation * up once before the kernel rounds its own result
    torch.testing.assert_close(out.double(), expected, rtol=3 * ROUNDING[dtype], atol=30 * ROUNDING[dtype])
    if dtype == torch.float32:
        torch.testing.assert_close(out.double(), expected, rtol=2e-5, atol=2e-5)


@given(cases, kernels)
@settings(max_examples=100)
def test_neutral_entries_change_no_bit(case: Case, chosen: tuple[Kernel, torch.dtype]) -> None:
    kernel, dtype = chosen
    batch = Batch(case, dtype)
    batch.x[:, ::5] = -0.0
    rows = {slot: neutral(row) for slot, row in batch.rows.items()}
    out = batch.run(kernel, rows, torch.full((case.tokens,), float("nan")))
    assert out.contiguous().view(torch.uint8).equal(batch.plain().contiguous().view(torch.uint8))


@pytest.mark.parametrize("gated", [True, False])
@pytest.mark.parametrize("kernel", ["numba", "torch"])
def test_a_value_that_is_set_does_not_depend_on_the_old_one(kernel: Kernel, gated: bool) -> None:
    case = Case(seed=0, tokens=6, padding=0, width=8, layer=0, share=1.0, gated=gated, statistic=None)
    batch = Batch(case, torch.float32)
    batch.slots[:], batch.strengths[:] = 1, 1.0
    batch.x[:, :8] = torch.inf
    row = batch.rows[1]
    ones = np.ones_like(row.mult)
    out = batch.run(kernel, {1: replace(row, mult=0 * ones, add=2 * ones)}, torch.zeros(6))
    torch.testing.assert_close(out, 2 * batch.x[:, 8:] if gated else torch.full_like(out, 2.0))
