"""Loads the weights of a language model from a multimodal checkpoint, under their names in the language model alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Any

from vllm.model_executor.model_loader import register_model_loader
from vllm.model_executor.model_loader.default_loader import DefaultModelLoader

from ampsweep.folders.weights import language_model_weight
from engine.vllm.models.language_model import LOAD_FORMAT

_JOINED_EXPERTS = frozenset({"qwen3_vl_moe_text"})
"""Those, by `model_type`, whose checkpoints have the weights of all experts of a layer in one tensor."""


class LanguageModelLoader(DefaultModelLoader):  # type: ignore[misc]
    """Reads safetensors files, renames the weights of the language model, and leaves out those of the vision tower."""

    def __init__(self, load_config: Any) -> None:
        """Take vLLM's options of loading."""
        super().__init__(replace(load_config, load_format="safetensors"))

    def get_all_weights(self, model_config: Any, model: Any) -> Iterator[tuple[str, Any]]:
        """Yield the weights of the language model with their names in it."""
        config = model_config.hf_text_config
        joined = config.model_type in _JOINED_EXPERTS
        for name, weight in super().get_all_weights(model_config, model):
            if (name_alone := language_model_weight(name)) is not None:
                yield name_alone, oriented(name, weight, config.hidden_size) if joined else weight


def oriented(name: str, weight: Any, hidden_size: int) -> Any:
    """Return the weight of all experts as [E, outputs, inputs]; published checkpoints have the other order.

    Args:
        name: Name of the weight; those of other modules are returned unchanged.
        weight: The weight.
        hidden_size: The inputs of the first projection and outputs of the second.
    """
    axis = {"gate_up_proj": 2, "down_proj": 1}.get(name.rpartition(".experts.")[2])
    return weight if axis is None or weight.shape[axis] == hidden_size else weight.transpose(1, 2)


@cache
def register() -> None:
    """Let vLLM load checkpoints in the load format `LOAD_FORMAT` in this process."""
    register_model_loader(LOAD_FORMAT)(LanguageModelLoader)
