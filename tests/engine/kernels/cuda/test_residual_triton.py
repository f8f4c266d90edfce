"""The GPU kernels of the residual stream: each token gets its slot's vector, each sentence's row its tokens' sum."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from engine.kernels.device_table import VectorBuffers
from tests.engine.kernels.triton_modules import DEVICE, layer_index, residual_triton, use_interpreter

SLOTS, LAYERS, TOKENS = 3, 2, 7


@pytest.fixture(autouse=True)
def _interpreted(monkeypatch: pytest.MonkeyPatch) -> None:
    use_interpreter(monkeypatch)


@pytest.mark.parametrize("hidden_size", [40, 1500])  # one block, and two of which the second is part full
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_each_token_gets_the_vector_of_its_slot(hidden_size: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(SLOTS + 1, LAYERS, hidden_size, generator=generator).to(DEVICE)
    adds = torch.ones(SLOTS + 1, LAYERS, dtype=torch.int32, device=DEVICE)
    adds[2, 1] = 0
    slots = torch.tensor([1, 0, 3, 2, 1, 3, 0, 0, 0], dtype=torch.int32, device=DEVICE)
    hidden = torch.randn(TOKENS, hidden_size, generator=generator).to(dtype).to(DEVICE)
    hidden[1, 0] = -0.0
    before = hidden.clone()
    strengths = torch.tensor([1.0, 0.5, 0.25, 1.0, 0.75, 1.0, 1.0], device=DEVICE)
    residual_triton.add(hidden, slots, strengths, VectorBuffers(adds=adds, values=values), layer_index(1))
    for token, slot in enumerate(slots[:TOKENS].tolist()):
        if slot in (1, 3):
            expected = (before[token].double() + float(strengths[token]) * values[slot, 1].double()).to(dtype)
            torch.testing.assert_close(hidden[token], expected)
        else:
            assert hidden[token].view(torch.uint8).equal(before[token].view(torch.uint8))


def test_a_step_without_tokens_is_no_error() -> None:
    vectors = VectorBuffers(
        adds=torch.zeros(2, LAYERS, dtype=torch.int32, device=DEVICE), values=torch.zeros(2, LAYERS, 8, device=DEVICE)
    )
    slots = torch.zeros(0, dtype=torch.int32, device=DEVICE)
    none = torch.zeros(0, 8, device=DEVICE)
    residual_triton.add(none, slots, none[:, 0], vectors, layer_index(0))


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_take_the_sums_of_their_tokens(fused: bool, dtype: torch.dtype) -> None:
    generator, width = torch.Generator().manual_seed(0), 1500
    hidden, rest = (torch.randn(TOKENS, width, generator=generator).to(dtype).to(DEVICE) for _ in range(2))
    spans = torch.tensor([[4, 7], [0, 0], [1, 3]], dtype=torch.int32, device=DEVICE)
    sums = torch.zeros(LAYERS, 3, width, device=DEVICE)
    for _ in range(2):  # two chunks of the same sentences
        residual_triton.record(sums, hidden, rest if fused else None, spans, layer_index(1))
    output = hidden.double() + rest.double() if fused else hidden.double()
    for row, (first, end) in enumerate(spans.tolist()):
        expected = 2 * output[first:end].sum(dim=0).cpu()
        np.testing.assert_allclose(sums[1, row].cpu(), expected, rtol=1e-5, atol=1e-5)
    assert not sums[0].any()


@pytest.mark.parametrize("fused", [True, False])
def test_sentences_longer_than_a_program_unrolls(fused: bool) -> None:
    hidden, rest = torch.randn(2, 24, 40, generator=torch.Generator().manual_seed(0)).to(DEVICE).unbind()
    spans = torch.tensor([[0, 13], [13, 14], [14, 22]], dtype=torch.int32, device=DEVICE)
    hidden[22:] = torch.nan  # no token after the last is read
    sums = torch.zeros(LAYERS, 3, 40, device=DEVICE)
    residual_triton.record(sums, hidden, rest if fused else None, spans, layer_index(1))
    output = (hidden + rest if fused else hidden).double().cpu()
    for row, (first, end) in enumerate(spans.tolist()):
        np.testing.assert_allclose(sums[1, row].cpu(), output[first:end].sum(dim=0), rtol=1e-5, atol=1e-5)
