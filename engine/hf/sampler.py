"""Sampling of one token after another from logits, as `SamplingParams` asks."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ampsweep.domain.sampling import SamplingParams


class Sampler:
    """Samples the tokens of answer number `index` to a prompt; penalties depend on the tokens sampled before."""

    def __init__(self, sampling: SamplingParams, prompt: Sequence[int], *, index: int) -> None:
        self._sampling = sampling
        self._prompt = prompt
        self._sampled: list[int] = []
        self._random = torch.Generator()
        if sampling.seed is None:
            self._random.seed()
        else:
            self._random.manual_seed(sampling.seed + index)

    def next(self, logits: Tensor) -> int:
        """Sample the next token from its logits, float32 [vocabulary]."""
        logits = self._penalized(logits.cpu())
        token = int(logits.argmax()) if self._sampling.temperature == 0 else self._random_of(logits)
        self._sampled.append(token)
        return token

    def _penalized(self, logits: Tensor) -> Tensor:
        counts = torch.bincount(torch.tensor(self._sampled, dtype=torch.long), minlength=len(logits))
        seen = counts > 0
        seen[list(self._prompt)] = True
        repetition = torch.where(seen, self._sampling.repetition_penalty, 1.0)
        logits = torch.where(logits > 0, logits / repetition, logits * repetition)
        return logits - self._sampling.frequency_penalty * counts - self._sampling.presence_penalty * (counts > 0)

    def _random_of(self, logits: Tensor) -> int:
        scaled, order = (logits / self._sampling.temperature).sort(descending=True)
        probability = torch.softmax(scaled, dim=-1)
        scaled[probability < self._sampling.min_p * probability[0]] = -math.inf
        if self._sampling.top_k:
            scaled[self._sampling.top_k :] = -math.inf
        probability = torch.softmax(scaled, dim=-1)
        probability[probability.cumsum(dim=-1) - probability >= self._sampling.top_p] = 0
        probability[0] = max(float(probability[0]), torch.finfo(torch.float32).tiny)
        return int(order[torch.multinomial(probability, 1, generator=self._random)])
