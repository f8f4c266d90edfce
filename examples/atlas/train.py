"""Trains the atlas model and writes it to ``ampsweep/atlas/model``: a plain Qwen2 checkpoint, in minutes on two cores.

Beside next-token prediction two devices shape its MLPs; neither is part of the checkpoint:

- A few neurons of each layer are set aside for each language. A hinge loss asks them to fire (gate > 0) where the next
  token is in their language and to rest where it is in another, so that the choice of language has a place.
- Dropout of whole neurons spreads everything else over many neurons, so that a few at random matter little.

Usage: ``python -m examples.atlas.train [--steps 3000] [--out FOLDER]``; a run is a fixed number of steps.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from examples.atlas.documents import ATLAS, Documents, Segment
from examples.atlas.tokenizer import train_tokenizer

SEED = 0
BATCH = 128
POOL = 16  # batches sorted by length together
LENGTH = 64
PEAK_RATE = 3e-3
WEIGHT_DECAY = 0.1
DROPOUT = 0.1
NEURONS_PER_LANGUAGE = 3  # in each layer
LANGUAGE_WEIGHT = 0.3
MARGIN = 0.5
IGNORED = -100


def new_model(vocabulary: int) -> Qwen2ForCausalLM:
    """A model of 4 layers, 4096 neurons and about 2.4 million parameters."""
    return Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=vocabulary,
            hidden_size=128,
            intermediate_size=1024,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=2048,
            rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
            tie_word_embeddings=True,
            bos_token_id=0,
            eos_token_id=0,
            pad_token_id=0,
        )
    )


def encode(
    documents: list[list[Segment]], tokenizer: PreTrainedTokenizerFast, languages: list[str]
) -> list[tuple[list[int], list[int]]]:
    """Tokens of each document, and the language (index) of each token.

    A document begins without a special token, as a prompt does, and ends with the end token. A token belongs to the
    language of the segment that its first letter is in.
    """
    encoded = tokenizer(
        ["".join(segment.text for segment in document) for document in documents], return_offsets_mapping=True
    )
    pairs = []
    for document, ids, offsets in zip(documents, encoded["input_ids"], encoded["offset_mapping"], strict=True):
        by_letter = [languages.index(segment.language) for segment in document for _ in segment.text]
        spoken = [by_letter[start] for start, _ in offsets]
        pairs.append(([*ids, tokenizer.eos_token_id][:LENGTH], [*spoken, spoken[-1]][:LENGTH]))
    return pairs


def batches(documents: Documents, tokenizer: PreTrainedTokenizerFast) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches without end of documents of like length: tokens and languages ``[BATCH, length]``, padded with -100."""
    stream = iter(documents)
    while True:
        pool = encode(list(islice(stream, BATCH * POOL)), tokenizer, documents.languages)
        pool.sort(key=lambda pair: len(pair[0]))
        groups = [pool[start : start + BATCH] for start in range(0, len(pool), BATCH)]
        documents.random.shuffle(groups)
        for group in groups:
            width = len(group[-1][0])
            both = torch.tensor([[row + [IGNORED] * (width - len(row)) for row in pair] for pair in group])
            yield both[:, 0], both[:, 1]


class LanguageNeurons:
    """Watches the gates of a model's layers, and says how far the reserved neurons are from telling its language."""

    def __init__(self, model: Qwen2ForCausalLM, languages: int) -> None:
        """Reserve the first ``languages * NEURONS_PER_LANGUAGE`` neurons of each layer, language by language."""
        self.languages = languages
        self.gates: list[Tensor] = []
        for layer in model.model.layers:
            layer.mlp.gate_proj.register_forward_hook(self.watch)

    def watch(self, _module: nn.Module, _args: tuple[Tensor, ...], gates: Tensor) -> None:
        """Keep one layer's gates ``[batch, length, neurons]`` of the reserved neurons."""
        self.gates.append(gates[..., : self.languages * NEURONS_PER_LANGUAGE])

    def loss(self, spoken: Tensor) -> Tensor:
        """Mean hinge loss for next tokens of the languages ``spoken`` (``[batch, length]``, -100 ignored)."""
        known = (spoken != IGNORED)[..., None]
        own = (
            functional.one_hot(spoken.clamp(min=0), self.languages).repeat_interleave(NEURONS_PER_LANGUAGE, dim=-1)
            * known
        )
        others = known * (1 - own)
        total = torch.zeros(())
        for gates in self.gates:
            total = total + (functional.relu(MARGIN - gates) * own).sum() / own.sum()
            total = total + (functional.relu(MARGIN + gates) * others).sum() / others.sum()
        count = len(self.gates)
        self.gates.clear()
        return total / count


def add_dropout(model: Qwen2ForCausalLM) -> None:
    """Drop a share of the MLP's neurons, others for each document, while the model is in training mode."""

    def drop(module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        products = args[0]
        return (products * functional.dropout(torch.ones_like(products[:, :1]), DROPOUT, module.training),)

    for layer in model.model.layers:
        layer.mlp.down_proj.register_forward_pre_hook(drop)


def optimizer_of(model: Qwen2ForCausalLM) -> torch.optim.AdamW:
    """AdamW, with weight decay on matrices alone."""
    matrices = [weight for weight in model.parameters() if weight.ndim > 1]
    vectors = [weight for weight in model.parameters() if weight.ndim == 1]
    groups = [{"params": matrices, "weight_decay": WEIGHT_DECAY}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=PEAK_RATE, betas=(0.9, 0.98))


def rate_at(step: int, steps: int) -> float:
    """Share of the peak learning rate: 100 steps of warm-up, then half a cosine down to a fiftieth."""
    warm = min(1.0, (step + 1) / 100)
    return warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / steps)))


def train(steps: int, out: Path) -> None:
    """Train for a number of steps from ``SEED`` and save model and tokenizer."""
    torch.manual_seed(SEED)
    tokenizer = train_tokenizer()
    documents = Documents(SEED)
    model = new_model(len(tokenizer))
    add_dropout(model)
    neurons = LanguageNeurons(model, len(documents.languages))
    optimizer = optimizer_of(model)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate_at(step, steps))
    model.train()
    started = time.monotonic()
    print(f"{sum(weight.numel() for weight in model.parameters())} parameters, {steps} steps", flush=True)
    for step, (tokens, spoken) in enumerate(islice(batches(documents, tokenizer), steps)):
        logits = model(input_ids=tokens[:, :-1].clamp(min=0)).logits
        prediction = functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten(), ignore_index=IGNORED)
        language = neurons.loss(spoken[:, 1:])
        optimizer.zero_grad()
        (prediction + LANGUAGE_WEIGHT * language).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 99:
            seconds = time.monotonic() - started
            print(f"step {step + 1} loss {prediction:.3f} language {language:.3f} {seconds:.0f} s", flush=True)
    model.generation_config.do_sample = False
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--out", type=Path, default=ATLAS / "model")
    options = parser.parse_args()
    train(options.steps, options.out)
