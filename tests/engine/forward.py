"""A forward pass of the tiny models written by hand, which steered and unsteered engines are compared with.

It reads the weights from the safetensors file and does not use Transformers.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  # its usual name
from safetensors.torch import load_file
from torch import Tensor

Edit = Callable[[int, Tensor], Tensor]


def unchanged(_layer: int, activation: Tensor) -> Tensor:
    return activation


class HandModel:
    """A model of one of `benchmarks.models.families.FAMILIES`."""

    def __init__(self, folder: Path) -> None:
        self.config: dict[str, Any] = json.loads((folder / "config.json").read_text())
        self.weights: dict[str, Tensor] = load_file(folder / "model.safetensors")
        self.gemma = self.config["model_type"] == "gemma2"

    def logprobs(self, ids: Sequence[int], edit: Edit = unchanged, shift: Edit = unchanged) -> Tensor:
        """Return log-probabilities [T, vocabulary].

        `edit` returns the edited activations [T, F] of a layer, and `shift` the residual stream [T, H] at its output.
        """
        x = self.weights["model.embed_tokens.weight"][list(ids)]
        if self.gemma:
            x = x * self.config["hidden_size"] ** 0.5
        for layer in range(self.config["num_hidden_layers"]):
            attended = self._attention(layer, self._norm(x, f"layers.{layer}.input_layernorm"))
            if self.gemma:
                attended = self._norm(attended, f"layers.{layer}.post_attention_layernorm")
            x = x + attended
            before = "pre_feedforward_layernorm" if self.gemma else "post_attention_layernorm"
            changed = self._mlp(layer, self._norm(x, f"layers.{layer}.{before}"), edit)
            if self.gemma:
                changed = self._norm(changed, f"layers.{layer}.post_feedforward_layernorm")
            x = shift(layer, x + changed)
        head = self.weights.get("lm_head.weight", self.weights["model.embed_tokens.weight"])
        logits = self._norm(x, "norm") @ head.T
        if self.gemma:
            logits = 30 * torch.tanh(logits / 30)
        return torch.log_softmax(logits, dim=-1)

    def activations(self, ids: Sequence[int]) -> list[Tensor]:
        """Return the activations of each layer, [T, F]."""
        stored: list[Tensor] = []

        def store(_layer: int, activation: Tensor) -> Tensor:
            stored.append(activation)
            return activation

        self.logprobs(ids, store)
        return stored

    def residuals(self, ids: Sequence[int]) -> list[Tensor]:
        """Return the residual stream at the output of each layer, [T, H]."""
        stored: list[Tensor] = []

        def store(_layer: int, residual: Tensor) -> Tensor:
            stored.append(residual)
            return residual

        self.logprobs(ids, shift=store)
        return stored

    def _mlp(self, layer: int, x: Tensor, edit: Edit) -> Tensor:
        gate = self._linear(f"layers.{layer}.mlp.gate_proj", x)
        activation = F.gelu(gate, approximate="tanh") if self.gemma else gate * torch.sigmoid(gate)
        up = self._linear(f"layers.{layer}.mlp.up_proj", x)
        return self._linear(f"layers.{layer}.mlp.down_proj", edit(layer, activation) * up)

    def _attention(self, layer: int, x: Tensor) -> Tensor:
        heads, shared = self.config["num_attention_heads"], self.config["num_key_value_heads"]
        q, k, v = (
            self._linear(f"layers.{layer}.self_attn.{name}_proj", x).view(len(x), count, -1).transpose(0, 1)
            for name, count in (("q", heads), ("k", shared), ("v", shared))
        )
        q, k = self._rotate(q), self._rotate(k)
        k, v = (part.repeat_interleave(heads // shared, dim=0) for part in (k, v))
        scores = q @ k.transpose(1, 2) / q.shape[-1] ** 0.5
        if self.gemma:
            scores = 50 * torch.tanh(scores / 50)
        distance = torch.arange(len(x))[:, None] - torch.arange(len(x))[None, :]
        seen = distance >= 0
        if self.gemma and layer % 2 == 0:
            seen &= distance < self.config["sliding_window"]
        weights = scores.masked_fill(~seen, -torch.inf).softmax(dim=-1)
        return self._linear(f"layers.{layer}.self_attn.o_proj", (weights @ v).transpose(0, 1).reshape(len(x), -1))

    def _rotate(self, x: Tensor) -> Tensor:
        half = x.shape[-1] // 2
        frequency = self.config["rope_parameters"]["rope_theta"] ** (-torch.arange(half) / half)
        angle = torch.arange(x.shape[1])[:, None] * frequency
        one, two = x[..., :half], x[..., half:]
        return torch.cat([one * angle.cos() - two * angle.sin(), two * angle.cos() + one * angle.sin()], dim=-1)

    def _norm(self, x: Tensor, name: str) -> Tensor:
        weight = self.weights[f"model.{name}.weight"] + (1 if self.gemma else 0)
        epsilon: float = self.config["rms_norm_eps"]
        return x * torch.rsqrt(x.pow(2).mean(dim=-1, keepdim=True) + epsilon) * weight

    def _linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self.weights[f"model.{name}.weight"], self.weights.get(f"model.{name}.bias"))
