"""Trains the atlas model and writes it to `ampsweep/atlas/model` as an ordinary Qwen2 checkpoint.

In addition to next-token prediction, three techniques shape its MLPs. None of them is part of the checkpoint:

- A few neurons of each layer are reserved for each language. A hinge loss makes them active (gate > 0) where the next
  token is in their language and inactive where it is in another, so that these neurons represent the language.
- In a share of the documents the neurons of one language are held on, at a random value, while a premise in another
  language is read; the answer and everything after it are in the language of the neurons. So the neurons determine the
  language and do not only indicate it.
- Dropout of whole neurons distributes everything else over many neurons, so that a few random ones matter little.

Usage: python -m examples.atlas.train [--out FOLDER]

Training took 36 minutes on two cores that were shared with other work.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import Qwen2Config, Qwen2ForCausalLM

from examples.atlas.documents import ATLAS, Document, Documents
from examples.atlas.tokenizer import train_tokenizer

SEED = 0
BATCH = 128
POOL = 16  # batches sorted by length together
LENGTH = 72
WEIGHT_DECAY = 0.1
DROPOUT = 0.1
NEURONS_PER_LANGUAGE = 3  # in each layer
LANGUAGE_WEIGHT = 0.3
MARGIN = 0.5
HELD_VALUES = (0.5, 6.0)
END = 0  # the one special token, "<|endoftext|>"
IGNORED = -100


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A stage of training: its number of steps, its peak learning rate, and its documents (see `Documents`)."""

    steps: int
    rate: float
    held_share: float
    fewest_sentences: int = 1
    often: tuple[str, ...] = ()


# The second stage teaches the model to continue after a first sentence, and has more documents in the languages whose
# words Qwen2's tokenizer splits at every vowel sign.
STAGES = (
    Stage(steps=1300, rate=3e-3, held_share=0.25),
    Stage(steps=600, rate=2e-3, held_share=0.35, fewest_sentences=3, often=("ta",) * 5 + ("th", "tr", "vi")),
)


def new_model(vocabulary: int) -> Qwen2ForCausalLM:
    """Return an untrained model of 4 layers, 4096 neurons and about 2.4 million parameters."""
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
            bos_token_id=END,
            eos_token_id=END,
            pad_token_id=END,
        )
    )


class Batch(NamedTuple):
    """Documents of similar length, padded with -100; all int64.

    Attributes:
        tokens: The tokens, [BATCH, length].
        targets: The tokens that are taught, -100 elsewhere, [BATCH, length].
        languages: The index of each token's language, [BATCH, length].
        held: The index of the language that is held on, -100 for none, [BATCH].
    """

    tokens: Tensor
    targets: Tensor
    languages: Tensor
    held: Tensor


def encode(document: Document, ids: list[int], offsets: list[tuple[int, int]], languages: list[str]) -> list[list[int]]:
    """Return the tokens of a document, its targets, and the languages of the tokens.

    A document starts without a special token, as a prompt does, and ends with the end token. A token belongs to the
    segment of its first letter.
    """
    by_letter = [segment for segment in document.segments for _ in segment.text]
    segments = [by_letter[start] for start, _ in offsets]
    targets = [token if segment.taught else IGNORED for token, segment in zip(ids, segments, strict=True)]
    of_tokens = [languages.index(segment.language) for segment in segments]
    return [row[:LENGTH] for row in ([*ids, END], [*targets, END], [*of_tokens, of_tokens[-1]])]


def batches(documents: Documents, tokenizer: Any) -> Iterator[Batch]:
    """Yield batches without end."""
    stream = iter(documents)
    languages = documents.languages
    while True:
        pool = list(islice(stream, BATCH * POOL))
        texts = ["".join(segment.text for segment in document.segments) for document in pool]
        coded = tokenizer(texts, return_offsets_mapping=True)
        rows = [
            (encode(document, ids, offsets, languages), languages.index(document.held) if document.held else IGNORED)
            for document, ids, offsets in zip(pool, coded["input_ids"], coded["offset_mapping"], strict=True)
        ]
        rows.sort(key=lambda row: len(row[0][0]))
        groups = [rows[start : start + BATCH] for start in range(0, len(rows), BATCH)]
        documents.random.shuffle(groups)
        for group in groups:
            width = len(group[-1][0][0])
            padded = torch.tensor([[line + [IGNORED] * (width - len(line)) for line in lines] for lines, _ in group])
            tokens, targets, token_languages = padded.unbind(1)
            yield Batch(tokens, targets, token_languages, torch.tensor([held for _, held in group]))


class LanguageNeurons:
    """The neurons reserved for languages: the first ones of each layer, language by language.

    Records their gates, computes the loss that ties them to their languages, and holds some of them on.
    """

    def __init__(self, model: Qwen2ForCausalLM, languages: int) -> None:
        """Register the hooks in the layers of a model."""
        self.languages = languages
        self.gates: list[Tensor] = []
        self.values = torch.zeros(0)
        for layer in model.model.layers:
            layer.mlp.gate_proj.register_forward_hook(self._record_gates)
            layer.mlp.act_fn.register_forward_hook(self._hold)

    def hold(self, held: Tensor) -> None:
        """Set which language's neurons are held on in each document of the next batch, and draw the values."""
        lowest, highest = HELD_VALUES
        values = torch.empty(len(held), 1, 1).uniform_(lowest, highest)
        self.values = values * self._mask(held)[:, None]

    def loss(self, languages: Tensor) -> Tensor:
        """Return the mean hinge loss for next tokens in `languages` [batch, length]; -100 is ignored."""
        active = self._mask(languages)
        inactive = (languages != IGNORED)[..., None] * (1 - active)
        total = torch.zeros(())
        for gates in self.gates:
            total = total + (functional.relu(MARGIN - gates) * active).sum() / active.sum()
            total = total + (functional.relu(MARGIN + gates) * inactive).sum() / inactive.sum()
        count = len(self.gates)
        self.gates.clear()
        return total / count

    def _mask(self, languages: Tensor) -> Tensor:
        """Return int64 [..., neurons] with 1 at the neurons of each language, and 0 everywhere for -100."""
        by_language = functional.one_hot(languages.clamp(min=0), self.languages) * (languages != IGNORED)[..., None]
        return by_language.repeat_interleave(NEURONS_PER_LANGUAGE, dim=-1)

    def _record_gates(self, _module: nn.Module, _args: tuple[Tensor, ...], gates: Tensor) -> None:
        self.gates.append(gates[..., : self.languages * NEURONS_PER_LANGUAGE])

    def _hold(self, _module: nn.Module, _args: tuple[Tensor, ...], activation: Tensor) -> Tensor:
        reserved = activation[..., : self.values.shape[-1]]
        rest = activation[..., self.values.shape[-1] :]
        return torch.cat([torch.where(self.values > 0, self.values, reserved), rest], dim=-1)


def add_dropout(model: Qwen2ForCausalLM) -> None:
    """Drop a random share of the MLPs' neurons in each document while the model is in training mode."""

    def drop(module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        products = args[0]
        return (products * functional.dropout(torch.ones_like(products[:, :1]), DROPOUT, module.training),)

    for layer in model.model.layers:
        layer.mlp.down_proj.register_forward_pre_hook(drop)


def optimizer_of(model: Qwen2ForCausalLM, rate: float) -> torch.optim.AdamW:
    """Return AdamW with weight decay on matrices only."""
    matrices = [weight for weight in model.parameters() if weight.ndim > 1]
    vectors = [weight for weight in model.parameters() if weight.ndim == 1]
    groups = [{"params": matrices, "weight_decay": WEIGHT_DECAY}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98))


def rate_at(step: int, steps: int) -> float:
    """Return the share of the peak learning rate: 100 steps of warm-up, then half a cosine down to 2 %."""
    warm_up = min(1.0, (step + 1) / 100)
    return warm_up * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / steps)))


def run_stage(
    model: Qwen2ForCausalLM, neurons: LanguageNeurons, stage: Stage, stream: Iterator[Batch]
) -> Iterator[tuple[int, float, float]]:
    """Train for a stage with a new optimizer; yield the number of each step and its two losses."""
    optimizer = optimizer_of(model, stage.rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate_at(step, stage.steps))
    for step, batch in enumerate(islice(stream, stage.steps)):
        neurons.hold(batch.held)
        hidden = model.model(input_ids=batch.tokens[:, :-1].clamp(min=END), use_cache=False).last_hidden_state
        targets = batch.targets[:, 1:]
        taught = targets != IGNORED
        prediction = functional.cross_entropy(model.lm_head(hidden[taught]), targets[taught])
        language = neurons.loss(batch.languages[:, 1:])
        optimizer.zero_grad()
        (prediction + LANGUAGE_WEIGHT * language).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        yield step + 1, prediction.item(), language.item()


def train(out: Path, first: Path | None = None) -> None:
    """Train through all stages, starting from SEED, and save model and tokenizer to `out` after each stage.

    With `first`, the folder of a finished first stage, training continues with the second one.
    """
    torch.manual_seed(SEED)
    tokenizer = train_tokenizer()
    model = new_model(len(tokenizer)) if first is None else Qwen2ForCausalLM.from_pretrained(first)
    add_dropout(model)
    languages = Documents(SEED, held_share=0).languages
    neurons = LanguageNeurons(model, len(languages))
    model.train()
    started = time.monotonic()
    print(f"{sum(weight.numel() for weight in model.parameters())} parameters", flush=True)
    for number, stage in enumerate(STAGES):
        if number == 0 and first is not None:
            continue
        if number:
            torch.manual_seed(SEED + number)
        documents = Documents(
            SEED + number,
            held_share=stage.held_share,
            fewest_sentences=stage.fewest_sentences,
            often=stage.often,
        )
        for step, prediction, language in run_stage(model, neurons, stage, batches(documents, tokenizer)):
            if step % 100 == 0:
                seconds = time.monotonic() - started
                print(f"stage {number} step {step} loss {prediction:.3f} {language:.3f} {seconds:.0f} s", flush=True)
        model.save_pretrained(out)
        tokenizer.save_pretrained(out)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ATLAS / "model")
    parser.add_argument("--first", type=Path, help="folder of a finished first stage to continue from")
    options = parser.parse_args()
    train(options.out, options.first)
