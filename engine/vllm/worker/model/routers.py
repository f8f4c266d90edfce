"""Corrects how vLLM chooses experts on a CPU in models that add a bias to the scores of their experts.

vLLM's router for CPUs reads the bias and the scoring function only where experts form groups. Without groups it ignores
the bias (ERNIE 4.5), or fails if scores are sigmoids (MiniMax M2). One group of all experts is the same as none.
"""

from __future__ import annotations

from typing import Any

from torch import nn


def correct(model: nn.Module) -> None:
    """Put all experts of such a router into one group; other routers, and those of GPUs, are unchanged."""
    for module in model.modules():
        router: Any = getattr(module, "router", None)
        if type(router).__name__ != "CPURouter" or router.use_grouped_topk or router.custom_routing_function:
            continue
        if router.scoring_func == "sigmoid" or router.e_score_correction_bias is not None:
            router.use_grouped_topk, router.num_expert_group, router.topk_group = True, 1, 1
