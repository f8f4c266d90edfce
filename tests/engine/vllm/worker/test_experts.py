"""Experts that cannot be steered are rejected with the reason; stand-ins name their attributes as vLLM does."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from ampsweep.errors import UnsupportedModel
from engine.kernels.activation import MlpForm
from engine.steering.mlp_sites import ExpertsSite

pytestmark = pytest.mark.engine
experts = pytest.importorskip("engine.vllm.worker.experts")
EXPERTS, WIDTH = 4, 6


class _Unfused(experts.UnfusedExperts):  # type: ignore[name-defined,misc]
    """The method without the kernel that vLLM chooses for it."""

    def __init__(self) -> None:
        torch.nn.Module.__init__(self)


def _site(*, shared: Any = None, bias: bool = False, method: Any = None, **routed: Any) -> ExpertsSite:
    attributes: dict[str, Any] = {
        "quant_method": method or _Unfused(),
        "expert_map": None,
        "activation": experts.MoEActivation.SILU,
        "moe_config": SimpleNamespace(has_bias=bias),
        "swiglu_limit": None,
        "apply_router_weight_on_input": False,
        "w2_weight": torch.empty(EXPERTS, 8, WIDTH),
        "top_k": 2,
    }
    runner = SimpleNamespace(routed_experts=SimpleNamespace(**{**attributes, **routed}), shared_experts=shared)
    return ExpertsSite(owner=None, experts=runner)


def test_a_layer_has_the_neurons_of_all_experts_and_a_token_reaches_some() -> None:
    found = experts.check_experts(_site(), layer=3, model="Model", ranks=1)
    assert (found.experts, found.neurons, found.reached) == (EXPERTS, EXPERTS * WIDTH, 2 * WIDTH)
    assert found.form == MlpForm(activation="silu", gated=True)


@pytest.mark.parametrize(
    ("site", "ranks", "reason"),
    [
        (_site(method=torch.nn.Identity()), 1, r"computes its experts in a fused kernel \(Identity\)"),
        (_site(), 2, "shares its experts among devices"),
        (_site(expert_map=torch.zeros(4)), 1, "shares its experts among devices"),
        (_site(activation=experts.MoEActivation.SWIGLUOAI), 1, "activation is not supported"),
        (_site(bias=True), 1, "activation is not supported"),
        (_site(swiglu_limit=7.0), 1, "activation is not supported"),
        (_site(apply_router_weight_on_input=True), 1, "experts of an unknown form"),
        (_site(shared=torch.nn.Identity()), 1, "experts of an unknown form"),
    ],
)
def test_other_experts_are_rejected_with_the_reason(site: ExpertsSite, ranks: int, reason: str) -> None:
    with pytest.raises(UnsupportedModel, match=f"Model cannot be steered: layer 3 .*{reason}"):
        experts.check_experts(site, layer=3, model="Model", ranks=ranks)
