"""What people do without Ampsweep: a Hugging Face model, a forward hook in each MLP, one intervention a batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

BATCH = 16
FACTOR = 1.5


class HooksBaseline:
    """Batches of 16, left-padded for generation, with a share of each layer's neurons scaled."""

    def __init__(self, folder: Path, *, share: float, seed: int) -> None:
        """Load the model and hang in the hooks; another draw of neurons a layer."""
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, padding_side="left")
        self.model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self.parameters = sum(weights.numel() for weights in self.model.parameters())
        generator = torch.Generator().manual_seed(seed)
        width: int = self.model.config.intermediate_size
        for layer in self.model.model.layers:
            neurons = torch.randperm(width, generator=generator)[: round(width * share)]
            layer.mlp.act_fn.register_forward_hook(_scale(neurons))

    @torch.inference_mode()
    def generate(self, prompts: list[str], new_tokens: int) -> int:
        """Continue the prompts greedily; return the number of new tokens."""
        for start in range(0, len(prompts), BATCH):
            batch = self.tokenizer(prompts[start : start + BATCH], return_tensors="pt", padding=True)
            self.model.generate(
                **batch, max_new_tokens=new_tokens, min_new_tokens=new_tokens, do_sample=False, pad_token_id=0
            )
        return len(prompts) * new_tokens

    @torch.inference_mode()
    def score(self, contexts: list[str], options: list[str]) -> int:
        """Compute the log-probability of each option's tokens; return the number of tokens read."""
        read = 0
        for start in range(0, len(contexts), BATCH):
            pairs = list(zip(contexts[start : start + BATCH], options[start : start + BATCH], strict=True))
            batch = self.tokenizer([context + option for context, option in pairs], return_tensors="pt", padding=True)
            logprobs = self.model(**batch).logits[:, :-1].log_softmax(-1)
            scored = logprobs.gather(-1, batch["input_ids"][:, 1:, None]).squeeze(-1)
            for row, (_, option) in zip(scored, pairs, strict=True):
                row[-len(option) :].tolist()
            read += int(batch["attention_mask"].sum())
        return read


def _scale(neurons: torch.Tensor) -> Any:
    def hook(_module: object, _inputs: object, output: torch.Tensor) -> torch.Tensor:
        output[..., neurons] *= FACTOR
        return output

    return hook
