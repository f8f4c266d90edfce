"""The atlas model with many premises a batch: log-probabilities of answers, steered and not, on plain PyTorch hooks.

Neurons and their edits come from ``engine``; its own ``transformers`` engine takes one request at a time, and an
evaluation over all ordered pairs of languages asks some millions.
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
    """A model whose activations can be edited, and its tokenizer as the engines use it."""

    def __init__(self, folder: Path) -> None:
        """Load the model of a folder in float32."""
        self.model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self.encoder = TextEncoder(
            AutoTokenizer.from_pretrained(folder),
            embedding_rows=self.model.get_input_embeddings().num_embeddings,
        )
        self.edits: Edits | None = None
        for at, layer in enumerate(self.model.model.layers):
            layer.mlp.act_fn.register_forward_hook(self._hook(at))

    def tokens(self, premise: str, answer: str) -> ScoredTokens:
        """Tokens of a premise and its answer, as every engine divides them."""
        return self.encoder.scored(ScoreRequest(context=premise, continuation=answer), max_tokens=MAX_TOKENS)

    def score(self, items: Sequence[ScoredTokens], edits: Edits | None = None) -> NDArray[np.float64]:
        """Summed log-probability of each item's continuation given its context, in nats, ``[items]``."""
        scores = np.zeros(len(items))
        order = sorted(range(len(items)), key=lambda at: len(items[at].context) + len(items[at].continuation))
        self.edits = edits
        with torch.inference_mode():
            for start in range(0, len(order), BATCH):
                rows = order[start : start + BATCH]
                scores[rows] = self._score_batch([items[at] for at in rows])
        self.edits = None
        return scores

    def _score_batch(self, items: Sequence[ScoredTokens]) -> NDArray[np.float64]:
        width = max(len(item.context) + len(item.continuation) for item in items)
        tokens = torch.zeros(len(items), width, dtype=torch.long)
        asked = torch.zeros(len(items), width - 1, dtype=torch.bool)
        for row, item in enumerate(items):
            ids = item.context + item.continuation
            tokens[row, : len(ids)] = torch.tensor(ids)
            asked[row, len(item.context) - 1 : len(ids) - 1] = True
        hidden = self.model.model(input_ids=tokens[:, :-1], use_cache=False).last_hidden_state[asked]
        logits = self.model.lm_head(hidden)
        own = logits.gather(-1, tokens[:, 1:][asked][:, None])[:, 0] - logits.logsumexp(-1)
        sums = torch.zeros(len(items)).index_add_(0, asked.nonzero()[:, 0], own)
        return sums.double().numpy()

    def _hook(self, layer: int) -> Any:
        def edit(_module: nn.Module, _args: tuple[Tensor, ...], activation: Tensor) -> Tensor | None:
            if self.edits is None:
                return None
            own, parts = self.edits.entries(layer), (self.edits.indices, self.edits.mult, self.edits.add)
            indices, mult, add = (torch.from_numpy(part[own]) for part in parts)
            edited = activation.clone()
            edited[..., indices] = activation[..., indices] * mult + add
            return edited

        return edit
