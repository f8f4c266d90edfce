"""A Hugging Face model with plain PyTorch hooks that apply `tests.engine.plain_rules`, in float64, without a cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from tests.engine.plain_rules import Rules


@dataclass(kw_only=True)
class Pass:
    """One forward pass over T tokens.

    Attributes:
        logits: The logits after each token, float64 [T, vocabulary].
        activations: Those of each layer before the edits in the layer, float64 [T, F].
    """

    logits: Tensor = field(default_factory=lambda: torch.empty(0))
    activations: list[Tensor] = field(default_factory=list)

    @property
    def logprobs(self) -> Tensor:
        return self.logits.log_softmax(dim=-1)


class PlainModel:
    """The model of a folder; its layers have gated MLPs, as Llama's."""

    def __init__(self, folder: Path) -> None:
        self._model: Any = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float64, attn_implementation="eager"
        )
        self._rules: Rules | None = None
        self._strengths = torch.empty(0)
        self._pass = Pass()
        for index, layer in enumerate(self._model.model.layers):
            layer.mlp.act_fn.register_forward_hook(self._after_activation(index))
            layer.register_forward_hook(self._after_layer(index))

    def run(self, ids: Sequence[int], rules: Rules | None = None, strengths: Tensor | None = None) -> Pass:
        """Compute some tokens, edited by rules with these strengths [T]."""
        self._pass, self._rules = Pass(), rules
        self._strengths = torch.ones(len(ids), dtype=torch.float64) if strengths is None else strengths
        with torch.no_grad():
            self._pass.logits = self._model(input_ids=torch.tensor([list(ids)]), use_cache=False).logits[0].double()
        return self._pass

    def _after_activation(self, layer: int) -> Any:
        def hook(_module: object, _inputs: object, active: Tensor) -> Tensor:
            self._pass.activations.append(active[0].clone())
            return active if self._rules is None else self._rules.edited(layer, active[0], self._strengths)[None]

        return hook

    def _after_layer(self, layer: int) -> Any:
        def hook(_module: object, _inputs: object, output: Any) -> Any:
            if self._rules is None:
                return output
            residual = output[0] if isinstance(output, tuple) else output
            shifted = self._rules.shifted(layer, residual[0], self._strengths)[None]
            return (shifted, *output[1:]) if isinstance(output, tuple) else shifted

        return hook
