"""What vLLM is told besides the config of DeepSeek V2 and V3 and of models with their attention."""

from __future__ import annotations

from typing import Any

_ROUTING = {"scoring_func": "sigmoid", "topk_method": "noaux_tc"}
"""How `deepseek_v3` chooses experts. Transformers does not read these settings and always chooses so; vLLM takes
another way if the config lacks them."""
LATENT_ATTENTION = frozenset({"deepseek_v2", "deepseek_v3", "glm4_moe_lite"})
"""Models, by `model_type`, that vLLM computes with multi-head latent attention."""
_CPU_BACKEND = "CPU_MLA"
"""vLLM's backend of latent attention for all CPUs and dtypes. On a CPU with AMX vLLM would take one for bfloat16."""


def deepseek_arguments(config: Any, *, on_cpu: bool) -> dict[str, Any]:
    """Return vLLM's arguments for a model of this kind; none for others.

    Args:
        config: The model's config in Transformers; None if it has none.
        on_cpu: Whether vLLM runs on a CPU.
    """
    arguments: dict[str, Any] = {}
    if getattr(config, "model_type", None) == "deepseek_v3":
        missing = {name: value for name, value in _ROUTING.items() if getattr(config, name, None) is None}
        if missing:
            arguments["hf_overrides"] = missing
    if on_cpu and getattr(config, "model_type", None) in LATENT_ATTENTION:
        arguments["attention_backend"] = _CPU_BACKEND
    return arguments
