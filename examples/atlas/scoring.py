"""Scores answers with the atlas model in large batches, with or without steering, using PyTorch hooks.

Neurons and edits come from `engine`. Its `transformers` engine runs one request at a time, which is too slow for the
millions of requests of an evaluation over all ordered pairs of languages.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer

from engine.base import ScoreRequest
from engine.steering.edits import Edits
from engine.tokenization import ScoredTokens, TextEncoder

BATCH = 512
MAX_TOKENS = 2048


class Scorer:
    """A model whose activations can be edited, with its tokenizer."""

    def __init__(self, folder: Path) -> None:
        """Load the model in a folder in float32."""
        self.model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self.encoder = TextEncoder(
            AutoTokenizer.from_pretrained(folder),
            embedding_rows=self.model.get_input_embeddings().num_embeddings,
        )
        self.edits: Edits | None = None
        for index, layer in enumerate(self.model.model.layers):
            layer.mlp.act_fn.register_forward_hook(self._hook(index))

    def tokens(self, premise: str, answer: str) -> ScoredTokens:
        """Return the tokens of a premise and its answer, split in the same way as by the engines."""
        return self.encoder.scored(ScoreRequest(context=premise, continuation=answer), max_tokens=MAX_TOKENS)

    def score(self, items: Sequence[ScoredTokens], edits: Edits | None = None) -> NDArray[np.float64]:
        """Return the log-probability of each item's continuation given its context, in nats, [items]."""
        scores = np.zeros(len(items))
        order = sorted(range(len(items)), key=lambda index: len(items[index].context) + len(items[index].continuation))
        self.edits = edits
        with torch.inference_mode():
            for start in range(0, len(order), BATCH):
                rows = order[start : start + BATCH]
                scores[rows] = self._score_batch([items[index] for index in rows])
        self.edits = None
        return scores

    def _score_batch(self, items: Sequence[ScoredTokens]) -> NDArray[np.float64]:
        width = max(len(item.context) + len(item.continuation) for item in items)
        tokens = torch.zeros(len(items), width, dtype=torch.long)
        scored = torch.zeros(len(items), width - 1, dtype=torch.bool)
        for row, item in enumerate(items):
            ids = item.context + item.continuation
            tokens[row, : len(ids)] = torch.tensor(ids)
            scored[row, len(item.context) - 1 : len(ids) - 1] = True
        hidden = self.model.model(input_ids=tokens[:, :-1], use_cache=False).last_hidden_state[scored]
        logits = self.model.lm_head(hidden)
        logprobs = logits.gather(-1, tokens[:, 1:][scored][:, None])[:, 0] - logits.logsumexp(-1)
        sums = torch.zeros(len(items)).index_add_(0, scored.nonzero()[:, 0], logprobs)
        return sums.double().numpy()

    def _hook(self, layer: int) -> Any:
        def edit(_module: nn.Module, _args: tuple[Tensor, ...], activation: Tensor) -> Tensor | None:
            if self.edits is None:
                return None
            entries = self.edits.entries(layer)
            arrays = (self.edits.indices, self.edits.mult, self.edits.add)
            indices, mult, add = (torch.from_numpy(array[entries]) for array in arrays)
            edited = activation.clone()
            edited[..., indices] = activation[..., indices] * mult + add
            return edited

        return edit
