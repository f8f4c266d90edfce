"""A sentence's row holds the counts and sums of its tokens, whatever else is in the batch."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch

from benchmarks.kernels.float64_activation import activation_in_float64
from engine.kernels.activation import ActivationName
from tests.engine.kernels.triton_modules import DEVICE, kernel_constants, layer_index, record_triton, use_interpreter

pytestmark = pytest.mark.processes  # Triton's interpreter takes seconds

LAYERS, ROWS, WIDTH, TOKENS = 2, 3, 300, 7  # two blocks of neurons, the second one part full


@pytest.fixture(autouse=True)
def _interpreted(monkeypatch: pytest.MonkeyPatch) -> None:
    use_interpreter(monkeypatch)


@pytest.mark.parametrize("gated", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("activation", get_args(ActivationName))
def test_rows_hold_the_counts_and_sums_of_their_tokens(
    activation: ActivationName, gated: bool, dtype: torch.dtype
) -> None:
    x = 2 * torch.randn(TOKENS, WIDTH * (2 if gated else 1), generator=torch.Generator().manual_seed(0))
    x = x.to(dtype).to(DEVICE)
    spans = torch.tensor([[4, 7], [0, 0], [1, 3]], dtype=torch.int32, device=DEVICE)
    counts = torch.zeros(LAYERS, ROWS, WIDTH, dtype=torch.int32, device=DEVICE)
    sums = torch.zeros(LAYERS, ROWS, WIDTH, dtype=torch.float32, device=DEVICE)
    for _ in range(2):  # two chunks of the same sentences
        record_triton.record(
            counts,
            sums,
            x,
            spans,
            layer_index(1),
            width=WIDTH,
            activation=activation,
            constants=kernel_constants(activation),
        )
    active = activation_in_float64(x[:, :WIDTH].cpu(), activation)
    for row, (first, end) in enumerate(spans.tolist()):
        np.testing.assert_array_equal(counts[1, row].cpu(), 2 * (active[first:end] > 0).sum(dim=0))
        np.testing.assert_allclose(sums[1, row].cpu(), 2 * active[first:end].sum(dim=0), rtol=1e-5, atol=1e-6)
    assert not counts[0].any()
    assert not sums[0].any()


def test_a_sum_does_not_depend_on_the_position_in_the_batch() -> None:
    x = torch.randn(TOKENS, WIDTH, generator=torch.Generator().manual_seed(0)).to(DEVICE)
    sums_by_position = []
    for shift in (0, 2):
        counts = torch.zeros(LAYERS, ROWS, WIDTH, dtype=torch.int32, device=DEVICE)
        sums = torch.zeros(LAYERS, ROWS, WIDTH, dtype=torch.float32, device=DEVICE)
        spans = torch.tensor([[0, 0], [shift, shift + 5], [0, 0]], dtype=torch.int32, device=DEVICE)
        moved = x.roll(shift, 0).contiguous()
        record_triton.record(counts, sums, moved, spans, layer_index(0), width=WIDTH, activation="gelu")
        sums_by_position.append(sums[0, 1].clone())
    assert torch.equal(*sums_by_position)


def test_a_narrow_layer_leaves_its_padding_alone() -> None:
    narrow = 280
    x = torch.randn(TOKENS, 2 * narrow, generator=torch.Generator().manual_seed(0)).to(DEVICE)
    spans = torch.tensor([[0, 0], [2, 6], [0, 0]], dtype=torch.int32, device=DEVICE)
    counts = torch.zeros(LAYERS, ROWS, WIDTH, dtype=torch.int32, device=DEVICE)
    sums = torch.zeros(LAYERS, ROWS, WIDTH, dtype=torch.float32, device=DEVICE)
    record_triton.record(counts, sums, x, spans, layer_index(1), width=narrow, activation="relu")
    gates = x[2:6, :narrow].cpu()
    np.testing.assert_array_equal(counts[1, 1, :narrow].cpu(), (gates > 0).sum(dim=0))
    np.testing.assert_allclose(sums[1, 1, :narrow].cpu(), gates.relu().sum(dim=0), rtol=1e-5, atol=1e-6)
    assert not counts[1, 1, narrow:].any()
    assert counts.sum() == counts[1, 1].sum()


def test_a_program_handles_several_rows_and_sentences_longer_than_it_unrolls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_triton, "_PROGRAMS", 2)
    x = torch.randn(40, WIDTH, generator=torch.Generator().manual_seed(0)).to(DEVICE)
    spans = torch.tensor([[0, 19], [19, 35], [35, 36]], dtype=torch.int32, device=DEVICE)
    counts = torch.zeros(LAYERS, ROWS, WIDTH, dtype=torch.int32, device=DEVICE)
    sums = torch.zeros(LAYERS, ROWS, WIDTH, dtype=torch.float32, device=DEVICE)
    record_triton.record(counts, sums, x, spans, layer_index(1), width=WIDTH, activation="relu")
    for row, (first, end) in enumerate(spans.tolist()):
        np.testing.assert_array_equal(counts[1, row].cpu(), (x[first:end] > 0).sum(dim=0).cpu())
        np.testing.assert_allclose(sums[1, row].cpu(), x[first:end].relu().sum(dim=0).cpu(), rtol=1e-5, atol=1e-5)
