"""The baseline without Ampsweep: a Hugging Face model with a forward hook in each MLP, one intervention per batch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from ampsweep.domain.neurons.layer_widths import LayerWidths
from benchmarks.timed_runs.workload import FACTOR, ScoredItem, neurons_of

BATCH = 16


class HooksBaseline:
    """Scores padded batches of up to BATCH requests with the same intervention, in descending order of length."""

    def __init__(self, folder: Path) -> None:
        """Load the model and register the hooks."""
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, padding_side="right")
        self.model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self.parameters = sum(weights.numel() for weights in self.model.parameters())
        self._neurons: list[torch.Tensor] = []
        for index, layer in enumerate(self.model.model.layers):
            layer.mlp.act_fn.register_forward_hook(self._hook(index))

    def score(self, items: Sequence[ScoredItem]) -> None:
        """Compute the log-probability of each option's tokens."""
        groups: defaultdict[int | None, list[ScoredItem]] = defaultdict(list)
        for item in items:
            groups[item.intervention].append(item)
        config = self.model.config
        for number, group in groups.items():
            assert number is not None, "the baseline takes steered requests only"
            chosen = neurons_of(LayerWidths(config.num_hidden_layers, config.intermediate_size), number)
            self._neurons = list(map(torch.from_numpy, chosen))
            group.sort(key=lambda item: len(item.context) + len(item.option), reverse=True)
            for start in range(0, len(group), BATCH):
                self._score_batch(group[start : start + BATCH])

    @torch.inference_mode()
    def _score_batch(self, items: Sequence[ScoredItem]) -> list[float]:
        texts = [item.context + item.option for item in items]
        batch = self.tokenizer(texts, return_tensors="pt", padding=True)
        logprobs = self.model(**batch).logits[:, :-1].log_softmax(-1)
        scored = logprobs.gather(-1, batch["input_ids"][:, 1:, None]).squeeze(-1)
        first = [len(self.tokenizer.encode(item.context)) - 1 for item in items]
        last = (batch["attention_mask"].sum(1) - 1).tolist()
        return [float(row[start:end].sum()) for row, start, end in zip(scored, first, last, strict=True)]

    def _hook(self, layer: int) -> Any:
        def hook(_module: object, _inputs: object, output: torch.Tensor) -> torch.Tensor:
            output[..., self._neurons[layer]] *= FACTOR
            return output

        return hook
