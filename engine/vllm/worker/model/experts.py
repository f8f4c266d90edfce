"""Makes vLLM compute experts in a form that can be steered, and checks that a loaded layer of experts has it.

vLLM computes the experts in a fused kernel, which cannot be interrupted between activation and second projection.
`UnfusedExperts` replaces that method in every process with the steered CPU worker, and in those with the steered GPU
worker if the options say so: it leaves the weights as they are, and the backend computes the experts. See
docs/adr/0007-unfused-experts.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import nn
from vllm.model_executor.layers.fused_moe.activation import MoEActivation
from vllm.model_executor.layers.fused_moe.oracle.unquantized import UnquantizedMoeBackend
from vllm.model_executor.layers.fused_moe.unquantized_fused_moe_method import UnquantizedFusedMoEMethod

from ampsweep.errors import UnsupportedModel
from engine.kernels.activation import ActivationName, MlpForm
from engine.steering.mlp_sites import ExpertsSite, MlpSite
from engine.vllm.options import UNFUSED_EXPERTS, UNFUSED_EXPERTS_VARIABLE

_FUNCTIONS: dict[MoEActivation, ActivationName] = {
    MoEActivation.SILU: "silu",
    MoEActivation.GELU: "gelu",
    MoEActivation.GELU_TANH: "gelu_tanh",
    MoEActivation.RELU2_NO_MUL: "relu2",
    MoEActivation.SWIGLUOAI: "quick_gelu",
}
"""The functions on the gate of an expert, or on its only first projection."""
_GPT_OSS_LIMIT = 7.0
"""Where vLLM's function for gpt-oss clamps gate and up, which alternate in its weights."""


class UnfusedExperts(UnquantizedFusedMoEMethod):  # type: ignore[misc]
    """vLLM's method of experts without quantization, computed by a module of the steering backend.

    Attributes:
        computation: The module, see `SteeringBackend.experts`; None until the model is steered.
    """

    computation: nn.Module | None

    def __init__(self, moe: Any) -> None:
        """Choose no kernel. vLLM would reject experts for which it has none, such as those of gpt-oss on a CPU."""
        super(UnquantizedFusedMoEMethod, self).__init__(moe)
        self.unquantized_backend, self.experts_cls = UnquantizedMoeBackend.CPU, None
        self.supports_pre_processed_weights = False
        self.computation = None

    def steer(self, computation: nn.Module) -> None:
        """Let a module of the steering backend compute the experts."""
        self.computation = computation

    def process_weights_after_loading(self, layer: Any) -> None:
        """Leave the weights in the layout of the checkpoint."""

    @property
    def is_monolithic(self) -> bool:
        """Whether the kernel chooses the experts itself; here the router has chosen them."""
        return False

    def apply(
        self, layer: Any, x: torch.Tensor, topk_weights: torch.Tensor, topk_ids: torch.Tensor, **_shared: Any
    ) -> torch.Tensor:
        """Return the sum of the experts' outputs [T, H]; see `engine.vllm.backends.experts.run_experts`."""
        assert self.computation is not None, "a model runs only after it is steered"
        output: torch.Tensor = self.computation(
            x,
            layer.w13_weight,
            layer.w2_weight,
            topk_weights,
            topk_ids,
            b13=getattr(layer, "w13_bias", None),
            b2=getattr(layer, "w2_bias", None),
            limit=_GPT_OSS_LIMIT if layer.activation is MoEActivation.SWIGLUOAI else None,
            on_input=layer.apply_router_weight_on_input,
        )
        return output


@cache
def install() -> None:
    """Make vLLM create `UnfusedExperts` instead of its own method from now on in this process."""
    UnquantizedFusedMoEMethod.register_oot(UnfusedExperts)


@dataclass(frozen=True, kw_only=True, eq=False)
class SteerableExperts:
    """The experts of one layer of a loaded model.

    Attributes:
        method: Computes the experts.
        form: What each expert computes.
        experts: Number of experts.
        neurons: Neurons of all experts.
        reached: Neurons of the experts that one token reaches.
        each: Experts that one token reaches.
        weights: The module that holds the weights of the experts.
    """

    method: UnfusedExperts
    form: MlpForm
    experts: int
    neurons: int
    reached: int
    each: int
    weights: Any

    def compute(self, x: torch.Tensor, shares: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
        """Return the output of the experts, [T, H], for inputs [T, H], shares [T, k] and chosen experts [T, k]."""
        return self.method.apply(self.weights, x, shares, chosen)


def check_experts(site: ExpertsSite, *, beside: MlpSite | None, layer: int, model: str, ranks: int) -> SteerableExperts:
    """Return the experts of a layer, if they can be steered.

    Args:
        site: The experts.
        beside: The MLP for all tokens in the same layer, None if there is none.
        layer: Index of the layer, for the error.
        model: Class of the model, for the error.
        ranks: Number of tensor-parallel ranks.

    Raises:
        UnsupportedModel: They cannot be steered; the message gives the reason.
    """
    routed: Any = getattr(site.experts, "routed_experts", None)
    method: Any = getattr(routed, "quant_method", None)
    reason = None
    if not isinstance(method, UnfusedExperts):
        kernel = type(site.experts if method is None else method).__name__
        reason = (
            f"computes its experts in a fused kernel ({kernel}), which has no place for an intervention; use weights "
            f"that are not quantized, on a CPU or with {UNFUSED_EXPERTS} (vllm serve: {UNFUSED_EXPERTS_VARIABLE}=1)"
        )
    elif ranks > 1 or routed.expert_map is not None:
        reason = "shares its experts among devices; experts can be steered without tensor or expert parallelism"
    elif routed.activation not in _FUNCTIONS or routed.swiglu_limit is not None:
        reason = f"has experts whose activation is not supported ({routed.activation.value}, or clamped)"
    elif not _is_beside(site.experts, beside):
        reason = "has experts of an unknown form"
    if reason is not None:
        raise UnsupportedModel(f"{model} cannot be steered: layer {layer} {reason}", param="model")
    assert routed is not None
    experts, _, width = routed.w2_weight.shape
    return SteerableExperts(
        method=method,
        form=MlpForm(activation=_FUNCTIONS[routed.activation], gated=routed.activation.is_gated),
        experts=experts,
        neurons=experts * width,
        reached=routed.top_k * width,
        each=routed.top_k,
        weights=routed,
    )


def _is_beside(runner: Any, beside: MlpSite | None) -> bool:
    """Return whether the MLP that vLLM runs together with the experts, if there is one, is the one that is steered."""
    if (shared := runner.shared_experts) is None:
        return True
    layer = getattr(shared, "_layer", None)
    wrapped = getattr(layer, "shared_experts", None)  # in models that run Transformers' code
    return beside is not None and any(module is beside.owner for module in (layer, wrapped))
