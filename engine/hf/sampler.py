"""Sampling of one token after another from logits, as `SamplingParams` asks."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from ampsweep.domain.generation.sampling import SamplingParams

_LEAST_TEMPERATURE = 1e-6
"""Lower temperatures mean the same, but divided by them logits become infinite."""


class Sampler:
    """Samples the tokens of answer number `index` to a prompt; penalties depend on the tokens sampled before."""

    def __init__(
        self,
        sampling: SamplingParams,
        prompt: Sequence[int],
        *,
        index: int,
        end_tokens: Collection[int] = (),
        bad_words: Sequence[Sequence[int]] = (),
    ) -> None:
        """Prepare to sample.

        Args:
            sampling: The sampling parameters.
            prompt: The tokens of the prompt.
            index: Number of the answer, counted from 0.
            end_tokens: Tokens that are not sampled before `min_tokens` others.
            bad_words: The tokens of each text that the answer must not contain.
        """
        self._sampling = sampling
        self._prompt = prompt
        self._end_tokens = list(end_tokens)
        self._bad_words = [list(word) for word in bad_words]
        self._sampled: list[int] = []
        self._random = torch.Generator()
        if sampling.seed is None:
            self._random.seed()
        else:
            self._random.manual_seed(sampling.seed + index)

    def next(self, logits: Tensor) -> int:
        """Sample the next token from its logits, float32 [vocabulary]."""
        logits = self._allowed(self._penalized(self._biased(logits.cpu())))
        if (allowed := self._sampling.allowed_token_ids) is not None:
            others = torch.ones_like(logits, dtype=torch.bool).index_fill(0, torch.tensor(allowed), value=False)
            logits = logits.masked_fill(others, -math.inf)
        is_greedy = self._sampling.temperature == 0 or not logits.isfinite().any()
        token = int(logits.argmax()) if is_greedy else self._random_of(logits)
        self._sampled.append(token)
        return token

    def _biased(self, logits: Tensor) -> Tensor:
        if not self._sampling.logit_bias:
            return logits
        logits = logits.clone()
        for token, bias in self._sampling.logit_bias.items():
            logits[token] += bias
        return logits

    def _allowed(self, logits: Tensor) -> Tensor:
        """Return the logits with -inf for the tokens that must not come next."""
        count = len(self._sampled)
        complete = [word for word in self._bad_words if len(word) <= count + 1]
        banned = [word[-1] for word in complete if self._sampled[count + 1 - len(word) :] == word[:-1]]
        if count < self._sampling.min_tokens:
            banned += self._end_tokens
        return logits.index_fill(0, torch.tensor(banned, dtype=torch.long), -math.inf)

    def _penalized(self, logits: Tensor) -> Tensor:
        counts = torch.bincount(torch.tensor(self._sampled, dtype=torch.long), minlength=len(logits))
        seen = counts > 0
        seen[list(self._prompt)] = True
        repetition = torch.where(seen, self._sampling.repetition_penalty, 1.0)
        logits = torch.where(logits > 0, logits / repetition, logits * repetition)
        return logits - self._sampling.frequency_penalty * counts - self._sampling.presence_penalty * (counts > 0)

    def _random_of(self, logits: Tensor) -> int:
        scaled, order = (logits / max(self._sampling.temperature, _LEAST_TEMPERATURE)).sort(descending=True)
        probability = torch.softmax(scaled, dim=-1)
        scaled[probability < self._sampling.min_p * probability[0]] = -math.inf
        if self._sampling.top_k:
            scaled[self._sampling.top_k :] = -math.inf
        probability = torch.softmax(scaled, dim=-1)
        probability[probability.cumsum(dim=-1) - probability >= self._sampling.top_p] = 0
        probability[0] = max(float(probability[0]), torch.finfo(torch.float32).tiny)
        return int(order[torch.multinomial(probability, 1, generator=self._random)])
