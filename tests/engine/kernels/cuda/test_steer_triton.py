"""Compares the CUDA kernel with float64 over shapes, slots, overlaps, empty rows and block borders."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from ampsweep.domain.statistic import Statistic, StatisticName
from benchmarks.kernels.float64_activation import activation_in_float64
from engine.kernels.activation import ActivationName
from engine.kernels.cpu import steer_numba
from engine.kernels.device_table import DeviceTable, SlotEntries
from tests.engine.kernels.rows import draw_row, neutral, steered, taken
from tests.engine.kernels.triton_modules import (
    DEVICE,
    kernel_constants,
    layer_index,
    statistic_triton,
    steer_triton,
    use_interpreter,
)

# numpy warns of the overflow in exp(-x) that the kernel relies on
pytestmark = [pytest.mark.processes, pytest.mark.filterwarnings("ignore::RuntimeWarning")]

ACTIVATIONS: tuple[ActivationName, ...] = get_args(ActivationName)
ROUNDING = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}
STATISTICS = [
    *(Statistic(name=name) for name in get_args(StatisticName) if name != "percentile"),
    *(Statistic(name="percentile", percent=percent) for percent in (0.0, 12.5, 50.0, 99.9, 100.0)),
]
LAYERS, SLOTS = 3, 5


@pytest.fixture(autouse=True, scope="module")
def _interpreter() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        use_interpreter(patch)
        yield


@dataclass(frozen=True, kw_only=True)
class Case:
    """A batch of `tokens` steered tokens and `padding` more; each slot changes `share` of the neurons."""

    seed: int
    tokens: int
    padding: int
    width: int
    block: int
    layer: int
    share: float
    activation: ActivationName
    gated: bool
    dtype: torch.dtype


cases = st.builds(
    Case,
    seed=st.integers(0, 2**32 - 1),
    tokens=st.integers(0, 5),
    padding=st.integers(0, 2),
    width=st.integers(2, 70),
    block=st.sampled_from([16, 32, 64]),
    layer=st.integers(0, LAYERS - 1),
    share=st.sampled_from([0.0, 0.05, 0.3, 1.0]),
    activation=st.sampled_from(ACTIVATIONS),
    gated=st.booleans(),
    dtype=st.sampled_from(list(ROUNDING)),
)


class Batch:
    """The tensors of a case: `x`, the slot of each token (0 for padding), the rows, and the table that holds them."""

    def __init__(self, case: Case, *, statistic: Statistic | None = None) -> None:
        rng = np.random.default_rng(case.seed)
        self.case = case
        total = case.tokens + case.padding
        x = rng.normal(size=(total, case.width * (2 if case.gated else 1))) * 3
        self.x = torch.from_numpy(x).to(case.dtype)
        self.slots = [*rng.integers(0, SLOTS + 1, case.tokens).tolist(), *[0] * case.padding]
        self.strengths = torch.from_numpy(np.where(rng.random(total) < 0.5, 1.0, rng.random(total))).float()
        # the last slot is never written, and slot 2 has no entries
        self.rows = {
            slot: draw_row(
                rng,
                layers=LAYERS,
                width=case.width,
                share=0.0 if slot == 2 else case.share,
                statistic=statistic if slot % 2 else None,
            )
            for slot in range(1, SLOTS)
        }
        self.table = DeviceTable(
            slots=SLOTS,
            layers=LAYERS,
            width=case.width,
            capacity=SLOTS * LAYERS * case.width,
            block=case.block,
            statistics=statistic is not None,
            device=DEVICE,
        )

    def run(self, rows: dict[int, SlotEntries]) -> torch.Tensor:
        """Return the output of the kernel for the batch with these rows; NaN where it does not write."""
        for slot in range(1, SLOTS):
            self.table.clear(slot)
        for slot, row in rows.items():
            self.table.write(slot, row)
        out = torch.full((len(self.slots), self.case.width), float("nan"), dtype=self.case.dtype, device=DEVICE)
        slots = torch.tensor([*self.slots, 1, 1], dtype=torch.int32, device=DEVICE)  # longer than the batch
        arguments = (self.x.to(DEVICE), slots, self.table.buffers, layer_index(self.case.layer))
        activation = self.case.activation
        options = {"activation": activation, "gated": self.case.gated, "constants": kernel_constants(activation)}
        statistic = None
        if self.table.buffers.statistics is not None:
            statistic = torch.full((len(slots),), float("nan"), device=DEVICE)
            statistic_triton.take(statistic, *arguments, **options)
        steer_triton.steer(out, *arguments, **options, strengths=self.strengths.to(DEVICE), statistic=statistic)
        return out.cpu()

    def check(self) -> None:
        """Compare with float64, up to the rounding of the result and of the float32 computation."""
        expected = steered(
            self.x,
            self.slots,
            self.rows,
            self.case.layer,
            name=self.case.activation,
            gated=self.case.gated,
            strengths=self.strengths,
        )
        torch.testing.assert_close(self.run(self.rows).double(), expected, rtol=ROUNDING[self.case.dtype], atol=2e-5)


@given(cases)
@settings(max_examples=150)
def test_the_kernel_agrees_with_float64(case: Case) -> None:
    Batch(case).check()


@given(cases)
@settings(max_examples=50)
def test_neutral_entries_change_no_bit(case: Case) -> None:
    batch = Batch(case)
    batch.x[:, ::5] = -0.0
    plain = batch.run({})
    assert_same_bits(batch.run({slot: neutral(row) for slot, row in batch.rows.items()}), plain)


@given(cases, st.sampled_from(STATISTICS))
@settings(max_examples=50)
def test_the_kernel_adds_the_coefficient_times_the_statistic(case: Case, statistic: Statistic) -> None:
    Batch(case, statistic=statistic).check()


@pytest.mark.parametrize("statistic", STATISTICS, ids=lambda each: f"{each.name}-{each.percent}")
@pytest.mark.parametrize("width", [2, 34, 75])
def test_statistics_agree_with_float64(width: int, statistic: Statistic) -> None:
    table = DeviceTable(slots=3, layers=1, width=width, capacity=2, statistics=True, device=DEVICE)
    one, none = np.ones(1, dtype=np.float32), np.empty(0, dtype=np.float32)
    first = np.array([0, 1], dtype=np.int64), np.zeros(1, dtype=np.int32)
    table.write(1, SlotEntries(offsets=first[0], indices=first[1], mult=one, add=one, statistic=statistic, coef=one))
    table.write(2, SlotEntries(offsets=first[0], indices=first[1], mult=one, add=one))
    nothing = np.zeros(2, dtype=np.int64), np.empty(0, dtype=np.int32)
    table.write(
        3, SlotEntries(offsets=nothing[0], indices=nothing[1], mult=none, add=none, statistic=statistic, coef=none)
    )
    x = torch.randn(6, width, generator=torch.Generator().manual_seed(width))
    x[4] = x[4].round()
    x[5, 1::2] = x[5, : width - 1 : 2]  # every value twice
    slots = torch.tensor([1, 0, 2, 3, 1, 1], dtype=torch.int32, device=DEVICE)
    out = torch.full((6,), float("nan"), device=DEVICE)
    statistic_triton.take(out, x.to(DEVICE), slots, table.buffers, layer_index(0), activation="silu", gated=False)
    active = activation_in_float64(x, "silu")
    untaken = float("nan")
    expected = [taken(active[token], statistic) if token in (0, 4, 5) else untaken for token in range(6)]
    torch.testing.assert_close(
        out.cpu().double(), torch.tensor(expected, dtype=torch.float64), rtol=1e-5, atol=1e-6, equal_nan=True
    )


@given(cases)
@settings(max_examples=50)
def test_a_program_handles_two_tokens_of_a_long_batch(case: Case) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(steer_triton, "LONG_BATCH", 1)
        Batch(case).check()


@pytest.mark.parametrize("long_batch", [2, 100])
@pytest.mark.parametrize("statistic", [None, Statistic(name="mean")], ids=["", "with a statistic"])
def test_more_entries_than_a_program_loads_at_once(
    statistic: Statistic | None, long_batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steer_triton, "LONG_BATCH", long_batch)
    Batch(a_case(tokens=5, width=300, block=256, share=1.0), statistic=statistic).check()


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_large_activations_do_not_overflow(activation: ActivationName) -> None:
    batch = Batch(a_case(activation=activation))
    batch.x *= 100
    batch.check()


@pytest.mark.parametrize("gated", [True, False])
def test_with_mult_0_an_infinite_activation_is_not_read(gated: bool) -> None:
    width, add = 4, np.array([0.0, 2.0, 0.0, 0.0], dtype=np.float32)
    row = SlotEntries(
        offsets=np.array([0, 4], dtype=np.int64),
        indices=np.arange(4, dtype=np.int32),
        mult=np.array([0.0, 0.0, 0.0, 1.0], dtype=np.float32),
        add=add,
    )
    table = DeviceTable(slots=1, layers=1, width=width, capacity=4, device=DEVICE)
    table.write(1, row)
    gate, up = torch.full((1, width), float("inf")), torch.tensor([[1.0, 3.0, float("inf"), 3.0]])
    x = torch.cat([gate, up], dim=1) if gated else gate
    out = torch.full((1, width), float("nan"), device=DEVICE)
    slots = torch.ones(1, dtype=torch.int32, device=DEVICE)
    options = {"activation": "relu", "gated": gated, "strengths": torch.ones(1, device=DEVICE)}
    steer_triton.steer(out, x.to(DEVICE), slots, table.buffers, layer_index(0), **options)
    assert out[0].tolist() == [0.0, 6.0 if gated else 2.0, 0.0, float("inf")]
    on_cpu = functional.relu(gate) * up if gated else functional.relu(gate)
    arguments = np.ones(1, dtype=np.int32), np.array([[0, 0], [0, 4]]), 0, row.indices, row.mult, row.add
    none = np.zeros(4, dtype=np.float32), np.zeros(1, dtype=np.float32), np.ones(1, dtype=np.float32)
    if gated:
        steer_numba.steer_gated(up.numpy(), on_cpu.numpy(), *arguments, *none)
    else:
        steer_numba.steer_plain(on_cpu.numpy(), *arguments, *none)
    assert torch.equal(out.cpu(), on_cpu), "both backends have one rule"


@pytest.mark.parametrize("tokens", [300, 1000])
def test_a_program_tests_many_tokens(tokens: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistic_triton, "_PROGRAMS", 3)
    table = DeviceTable(slots=1, layers=1, width=8, capacity=1, statistics=True, device=DEVICE)
    offsets, one = np.array([0, 1], dtype=np.int64), np.ones(1, dtype=np.float32)
    mean = Statistic(name="mean")
    table.write(
        1,
        SlotEntries(offsets=offsets, indices=np.zeros(1, dtype=np.int32), mult=one, add=one, statistic=mean, coef=one),
    )
    x = torch.randn(tokens, 8, generator=torch.Generator().manual_seed(0))
    takes = torch.zeros(tokens, dtype=torch.int32)
    takes[[0, 7, 150, tokens - 1]] = 1
    out = torch.full((tokens,), float("nan"), device=DEVICE)
    arguments = (x.to(DEVICE), takes.to(DEVICE), table.buffers, layer_index(0))
    statistic_triton.take(out, *arguments, activation="relu", gated=False)
    expected = torch.where(takes == 1, x.double().relu().mean(dim=1), float("nan"))
    torch.testing.assert_close(out.cpu().double(), expected, rtol=1e-5, atol=1e-6, equal_nan=True)


@pytest.mark.skipif(DEVICE.type == "cpu", reason="needs CUDA")
def test_a_cuda_graph_sees_new_slots_and_rows() -> None:
    batch = Batch(a_case(tokens=7, width=4864, block=1024, dtype=torch.bfloat16))
    expected = batch.run(batch.rows)
    slots = torch.zeros(7, dtype=torch.int32, device=DEVICE)
    x, out = batch.x.to(DEVICE), torch.empty(7, 4864, dtype=torch.bfloat16, device=DEVICE)
    strengths = batch.strengths.to(DEVICE)
    layer, graph = layer_index(batch.case.layer), torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        options = {"activation": "silu", "gated": True, "strengths": strengths}
        steer_triton.steer(out, x, slots, batch.table.buffers, layer, **options)
    graph.replay()
    assert_same_bits(out.cpu(), batch.run({}))
    for slot, row in batch.rows.items():
        batch.table.write(slot, row)
    slots.copy_(torch.tensor(batch.slots, dtype=torch.int32))
    graph.replay()
    assert_same_bits(out.cpu(), expected)


def a_case(
    *,
    tokens: int = 4,
    width: int = 50,
    block: int = 16,
    share: float = 0.3,
    activation: ActivationName = "silu",
    dtype: torch.dtype = torch.float32,
) -> Case:
    return Case(
        seed=1,
        tokens=tokens,
        padding=0,
        width=width,
        block=block,
        layer=1,
        share=share,
        activation=activation,
        gated=True,
        dtype=dtype,
    )


def assert_same_bits(left: torch.Tensor, right: torch.Tensor) -> None:
    assert left.dtype == right.dtype
    assert left.contiguous().view(torch.uint8).equal(right.contiguous().view(torch.uint8))


@pytest.mark.parametrize("statistic", [None, Statistic(name="percentile", percent=90.0)])
@pytest.mark.parametrize("layer", [0, 1, 2])
def test_a_narrow_layer_is_steered_like_a_wide_one(layer: int, statistic: Statistic | None) -> None:
    widths = (20, 70, 33)
    rng = np.random.default_rng(layer)
    parts = [draw_row(rng, layers=1, width=width, share=0.3, statistic=statistic) for width in widths]
    row = SlotEntries(
        offsets=np.cumsum([0, *(len(part.indices) for part in parts)], dtype=np.int64),
        indices=np.concatenate([part.indices for part in parts]),
        mult=np.concatenate([part.mult for part in parts]),
        add=np.concatenate([part.add for part in parts]),
        statistic=statistic,
        coef=None if statistic is None else np.concatenate([part.coef for part in parts if part.coef is not None]),
    )
    table = DeviceTable(
        slots=1, layers=3, width=widths, capacity=200, block=16, statistics=statistic is not None, device=DEVICE
    )
    table.write(1, row)
    x = torch.from_numpy(rng.normal(size=(4, 2 * widths[layer]))).float()
    slots = torch.tensor([1, 0, 1, 1], dtype=torch.int32, device=DEVICE)
    out = torch.full((4, widths[layer]), float("nan"), device=DEVICE)
    arguments = (x.to(DEVICE), slots, table.buffers, layer_index(layer))
    value = None
    if statistic is not None:
        value = torch.zeros(4, device=DEVICE)
        statistic_triton.take(value, *arguments, activation="silu", gated=True)
    strengths = torch.ones(4, device=DEVICE)
    steer_triton.steer(out, *arguments, activation="silu", gated=True, strengths=strengths, statistic=value)
    expected = steered(x, slots.tolist(), {1: row}, layer, name="silu", gated=True)
    torch.testing.assert_close(out.cpu().double(), expected, rtol=1e-5, atol=2e-5)
