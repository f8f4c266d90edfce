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


class LanguageModelLoader(DefaultModelLoader):  # type: ignore[misc]
    """Reads safetensors files, renames the weights of the language model, and leaves out those of the vision tower."""

    def __init__(self, load_config: Any) -> None:
        """Take vLLM's options of loading."""
        super().__init__(replace(load_config, load_format="safetensors"))

    def get_all_weights(self, model_config: Any, model: Any) -> Iterator[tuple[str, Any]]:
        """Yield the weights of the language model with their names in it."""
        for name, weight in super().get_all_weights(model_config, model):
            if (name_alone := language_model_weight(name)) is not None:
                yield name_alone, weight


@cache
def register() -> None:
    """Let vLLM load checkpoints in the load format `LOAD_FORMAT` in this process."""
    register_model_loader(LOAD_FORMAT)(LanguageModelLoader)
