"""A Hugging Face model with forward hooks and nothing else: what steered scores and recordings are compared with.

It shares no code with the engines. Texts run one by one, without a cache and without padding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

Change = Callable[[int, Tensor], Tensor]
"""Takes a layer and its values [1, T, width], and returns the changed values."""


def unchanged(_layer: int, values: Tensor) -> Tensor:
    """Change nothing."""
    return values


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """What one sentence gives: T tokens, L layers of F neurons, a residual stream of H numbers.

    Attributes:
        tokens: T, without the BOS token.
        positive: Number of tokens with activation > 0, int64 [L, F].
        mean: Mean activation over the tokens, float32 [L, F].
        residual: Sum over the tokens of the residual at each layer's output, float64 [L, H].
    """

    tokens: int
    positive: NDArray[np.int64]
    mean: NDArray[np.float32]
    residual: NDArray[np.float64]


class PlainModel:
    """A decoder whose layers are `model.model.layers`, each with an activation function `mlp.act_fn`."""

    def __init__(self, folder: Path, dtype: str) -> None:
        """Load the model in `dtype`, "float32" or "bfloat16", and register the hooks."""
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        self.model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()
        self._activation: Change = unchanged
        self._residual: Change = unchanged
        for index, layer in enumerate(self.model.model.layers):
            layer.mlp.act_fn.register_forward_hook(partial(self._activation_hook, index))
            layer.register_forward_hook(partial(self._residual_hook, index))

    def token_ids(self, text: str, *, whole: bool = False) -> list[int]:
        """Return the tokens of a text; where its first one is scored too (`whole`), after BOS, or EOS without BOS."""
        ids: list[int] = self.tokenizer(text).input_ids
        if not whole:
            return ids
        bos, eos = self.tokenizer.bos_token_id, self.tokenizer.eos_token_id
        first = eos if bos is None else bos
        return ids if ids[0] == first else [first, *ids]

    @torch.inference_mode()
    def logprobs(self, ids: Sequence[int], *, activation: Change = unchanged, residual: Change = unchanged) -> Tensor:
        """Return the log-probabilities of the next token after each of T tokens, float32 [T, vocabulary]."""
        self._activation, self._residual = activation, residual
        logits: Tensor = self.model(input_ids=torch.tensor([list(ids)]), use_cache=False).logits[0]
        return logits.float().log_softmax(-1)

    def record(self, text: str) -> Recorded:
        """Record the activations and residuals of a sentence, without those of the BOS token."""
        activations: list[Tensor] = []
        residuals: list[Tensor] = []

        def keep(values: list[Tensor]) -> Change:
            def change(_layer: int, value: Tensor) -> Tensor:
                values.append(value[0].float())
                return value

            return change

        ids = self.tokenizer(text).input_ids
        self.logprobs(ids, activation=keep(activations), residual=keep(residuals))
        first = int(ids[0] == self.tokenizer.bos_token_id)
        recorded = torch.stack(activations)[:, first:]
        return Recorded(
            tokens=recorded.shape[1],
            positive=(recorded > 0).sum(1).numpy(),
            mean=recorded.double().mean(1).float().numpy(),
            residual=torch.stack(residuals)[:, first:].double().sum(1).numpy(),
        )

    def _activation_hook(self, layer: int, _module: object, _inputs: object, output: Tensor) -> Tensor:
        return self._activation(layer, output)

    def _residual_hook(self, layer: int, _module: object, _inputs: object, output: Any) -> Any:
        if isinstance(output, tuple):
            return (self._residual(layer, output[0]), *output[1:])
        return self._residual(layer, output)
