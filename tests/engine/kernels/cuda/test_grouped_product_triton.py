"""The products of pairs with the projections of their experts, compared with float64."""

from __future__ import annotations

import pytest
import torch

from engine.kernels.cuda import expert_pairs
from engine.kernels.cuda.expert_pairs import ExpertPairs
from tests.engine.kernels.triton_modules import DEVICE, grouped_product_triton, use_interpreter

pytestmark = pytest.mark.processes
EXPERTS, EACH, TOKENS = 5, 2, 45
ROUNDING = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}


@pytest.fixture(autouse=True)
def _interpreted(monkeypatch: pytest.MonkeyPatch) -> None:
    use_interpreter(monkeypatch)


@pytest.mark.parametrize("dtype", ROUNDING)
@pytest.mark.parametrize(("inputs", "outputs"), [(6, 8), (130, 70)], ids=["less than a block", "part full blocks"])
@pytest.mark.parametrize("tile", [16, 64])
def test_each_pair_is_multiplied_by_its_expert(
    tile: int, inputs: int, outputs: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The third expert gets no pair, and the last token, which is padding, has one that does not exist."""
    monkeypatch.setattr(expert_pairs, "MANY_PAIRS", 1 if tile == 64 else 32)
    torch.manual_seed(0)
    chosen = torch.stack([torch.tensor([0, 1, 3, 4])[torch.randperm(4)[:EACH]] for _ in range(TOKENS)])
    chosen[-1] = EXPERTS
    pairs = ExpertPairs.of(chosen.to(DEVICE), experts=EXPERTS)
    assert pairs.tile == tile
    weights, biases = torch.randn(EXPERTS, outputs, inputs).to(dtype), torch.randn(EXPERTS, outputs).to(dtype)
    shares = torch.rand(TOKENS * EACH)
    for each, x in ((EACH, torch.randn(TOKENS, inputs)), (1, torch.randn(TOKENS * EACH, inputs))):
        x = x.to(dtype)
        for optional in ({}, {"biases": biases, "shares": shares}):
            out = torch.full((TOKENS * EACH, outputs), float("nan"), dtype=dtype, device=DEVICE)
            given = {name: tensor.to(DEVICE) for name, tensor in optional.items()}
            grouped_product_triton.multiply(out, x.to(DEVICE), weights.to(DEVICE), pairs, each=each, **given)
            for pair, expert in enumerate(chosen.flatten().tolist()):
                if expert == EXPERTS:
                    assert out[pair].isnan().all(), "nothing is written"
                    continue
                expected = weights[expert].double() @ x[pair // each].double()
                if optional:
                    expected = (expected + biases[expert].double()) * shares[pair].double()
                tolerance = {"rtol": ROUNDING[dtype], "atol": ROUNDING[dtype] * inputs**0.5}
                torch.testing.assert_close(out[pair].cpu().double(), expected, **tolerance)


def test_no_tokens_are_no_error() -> None:
    pairs = ExpertPairs.of(torch.zeros(0, EACH, dtype=torch.int32, device=DEVICE), experts=EXPERTS)
    out, weights = torch.empty(0, 8, device=DEVICE), torch.ones(EXPERTS, 8, 4, device=DEVICE)
    grouped_product_triton.multiply(out, torch.empty(0, 4, device=DEVICE), weights, pairs, each=EACH)
