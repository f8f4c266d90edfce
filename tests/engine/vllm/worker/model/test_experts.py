"""Experts that cannot be steered are rejected with the reason; stand-ins name their attributes as vLLM does."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from ampsweep.errors import UnsupportedModel
from engine.kernels.activation import MlpForm
from engine.steering.mlp_sites import ExpertsSite, MlpSite
from engine.vllm.backends.experts import SequentialExperts
from tests.engine.vllm.backends.traced import traced_code

pytestmark = pytest.mark.engine
experts = pytest.importorskip("engine.vllm.worker.model.experts")
EXPERTS, WIDTH = 4, 6


class _Unfused(experts.UnfusedExperts):  # type: ignore[name-defined,misc]
    """The method without the kernel that vLLM chooses for it."""

    def __init__(self) -> None:
        torch.nn.Module.__init__(self)


MLP = torch.nn.Identity()
BESIDE = MlpSite(owner=MLP, name="act_fn", target=None)


def _site(*, shared: Any = None, method: Any = None, **routed: Any) -> ExpertsSite:
    attributes: dict[str, Any] = {
        "quant_method": method or _Unfused(),
        "expert_map": None,
        "activation": experts.MoEActivation.SILU,
        "swiglu_limit": None,
        "apply_router_weight_on_input": False,
        "w2_weight": torch.empty(EXPERTS, 8, WIDTH),
        "top_k": 2,
    }
    runner = SimpleNamespace(routed_experts=SimpleNamespace(**{**attributes, **routed}), shared_experts=shared)
    return ExpertsSite(owner=None, experts=runner)


def test_a_layer_has_the_neurons_of_all_experts_and_a_token_reaches_some() -> None:
    shared = (SimpleNamespace(_layer=layer) for layer in (MLP, SimpleNamespace(shared_experts=MLP)))
    for site, beside in ((_site(), None), *((_site(shared=each), BESIDE) for each in (None, *shared))):
        steerable = experts.check_experts(site, beside=beside, layer=3, model="Model", ranks=1)
        assert (steerable.experts, steerable.neurons, steerable.reached) == (EXPERTS, EXPERTS * WIDTH, 2 * WIDTH)
        assert (steerable.each, steerable.weights) == (2, site.experts.routed_experts)
        assert steerable.form == MlpForm(activation="silu", gated=True)


class _Layer(torch.nn.Module):
    """Calls the method of its experts as vLLM does."""

    def __init__(self, row: int) -> None:
        super().__init__()
        self.method = _Unfused()
        self.method.steer(SequentialExperts(row, "silu"))
        self.w13_weight, self.w2_weight = torch.zeros(EXPERTS, 2 * WIDTH, 8), torch.zeros(EXPERTS, 8, WIDTH)
        self.activation, self.apply_router_weight_on_input = experts.MoEActivation.SILU, False

    def forward(self, x: torch.Tensor, weights: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.method.apply(self, x, weights, chosen)
        return output


def test_all_layers_have_one_graph_of_their_experts() -> None:
    inputs = torch.zeros(3, 8), torch.ones(3, 2), torch.tensor([[0, 1]] * 3)
    first, last = (traced_code(_Layer(row), *inputs) for row in (0, 41))
    assert "run_experts" in first
    assert first == last


@pytest.mark.parametrize(
    ("activation", "form"),
    [
        ("SWIGLUOAI", MlpForm(activation="quick_gelu", gated=True)),
        ("RELU2_NO_MUL", MlpForm(activation="relu2", gated=False)),
    ],
)
def test_experts_of_other_forms_are_steered(activation: str, form: MlpForm) -> None:
    site = _site(activation=experts.MoEActivation[activation])
    assert experts.check_experts(site, beside=None, layer=0, model="Model", ranks=1).form == form


@pytest.mark.parametrize(
    ("site", "ranks", "reason"),
    [
        (_site(method=torch.nn.Identity()), 1, r"in a fused kernel \(Identity\).* on a CPU or with --unfused-experts"),
        (_site(), 2, "shares its experts among devices"),
        (_site(expert_map=torch.zeros(4)), 1, "shares its experts among devices"),
        (_site(activation=experts.MoEActivation.SWIGLUSTEP), 1, "activation is not supported"),
        (_site(swiglu_limit=7.0), 1, "activation is not supported"),
        (_site(shared=SimpleNamespace(_layer=torch.nn.Identity())), 1, "experts of an unknown form"),
    ],
)
def test_other_experts_are_rejected_with_the_reason(site: ExpertsSite, ranks: int, reason: str) -> None:
    with pytest.raises(UnsupportedModel, match=f"Model cannot be steered: layer 3 .*{reason}"):
        experts.check_experts(site, beside=BESIDE, layer=3, model="Model", ranks=ranks)
