"""Makes vLLM compute experts in a form that can be steered, and checks that a loaded layer of experts has it.

On a CPU, vLLM packs the weights of the experts for a fused kernel, which cannot be interrupted between activation and
second projection. `UnfusedExperts` replaces that method in every process with the steered CPU worker: it leaves the
weights as they are and computes one expert after the other. See docs/adr/0007-unfused-experts.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from vllm.model_executor.layers.fused_moe.activation import MoEActivation
from vllm.model_executor.layers.fused_moe.unquantized_fused_moe_method import UnquantizedFusedMoEMethod

from ampsweep.errors import UnsupportedModel
from engine.kernels.activation import ActivationName, MlpForm
from engine.steering.mlp_sites import ExpertsSite
from engine.vllm.backends import experts as _operator  # noqa: F401  # defines the operator

_FUNCTIONS: dict[MoEActivation, ActivationName] = {
    MoEActivation.SILU: "silu",
    MoEActivation.GELU: "gelu",
    MoEActivation.GELU_TANH: "gelu_tanh",
}
"""The supported functions on the gate of an expert: plain activations, without a clamp or anything else."""


class UnfusedExperts(UnquantizedFusedMoEMethod):  # type: ignore[misc]
    """vLLM's method of experts without quantization, computed one after the other.

    Attributes:
        position: Index of the layer among the worker's layers, set when steering is installed.
    """

    position = -1

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
        function = _FUNCTIONS[layer.activation]
        output: torch.Tensor = torch.ops.ampsweep.run_experts(
            x, layer.w13_weight, layer.w2_weight, topk_weights, topk_ids, self.position, function
        )
        return output


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
    """

    method: UnfusedExperts
    form: MlpForm
    experts: int
    neurons: int
    reached: int


def check_experts(site: ExpertsSite, *, layer: int, model: str, ranks: int) -> SteerableExperts:
    """Return the experts of a layer, if they can be steered.

    Args:
        site: The experts.
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
            f"computes its experts in a fused kernel ({kernel}), which has no place for an intervention; use a CPU and "
            "weights that are not quantized"
        )
    elif ranks > 1 or routed.expert_map is not None:
        reason = "shares its experts among devices; experts can be steered without tensor or expert parallelism"
    elif routed.activation not in _FUNCTIONS or routed.moe_config.has_bias or routed.swiglu_limit is not None:
        reason = f"has experts whose activation is not supported ({routed.activation.value}, or biases)"
    elif routed.apply_router_weight_on_input or site.experts.shared_experts is not None:
        reason = "has experts of an unknown form"
    if reason is not None:
        raise UnsupportedModel(f"{model} cannot be steered: layer {layer} {reason}", param="model")
    assert routed is not None
    experts, _, width = routed.w2_weight.shape
    return SteerableExperts(
        method=method,
        form=MlpForm(activation=_FUNCTIONS[routed.activation], gated=True),
        experts=experts,
        neurons=experts * width,
        reached=routed.top_k * width,
    )
