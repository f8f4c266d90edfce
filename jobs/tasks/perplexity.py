"""Perplexity: how surprising a language's sentences are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from jobs.cell import TaskRef
from jobs.data.texts import read_texts, text_files
from jobs.metrics.base import Metric
from jobs.metrics.mean import NLL, PERPLEXITY
from jobs.sample import Sample
from jobs.tasks.base import Item, ItemSet
from jobs.tasks.file_task import FileTask
from jobs.tasks.requests import Answer, ScoreCall
from jobs.tasks.scoring import failed_sample, scored_sample


class Perplexity(FileTask):
    """Each sentence alone, after the token that begins a text; `score` is the mean negative log-probability, in nats.

    `perplexity` is the mean over sentences of exp(score); `nll` that of the score itself, which is what the mode
    `paper` calls perplexity. A limit takes the first sentences, which are the same in every language of an aligned
    corpus.
    """

    name = "perplexity"
    version = 2
    needs_target_language = False
    supports_chat = False
    default_data = "flores200"
    default_split = "devtest"

    def __init__(self, *, paper: bool = False) -> None:
        self.metrics: tuple[Metric, ...] = (replace(NLL, name="perplexity"),) if paper else (PERPLEXITY, NLL)

    def languages(self, folder: Path, split: str | None) -> frozenset[str]:
        """Return the languages that have a file of the split."""
        return frozenset(text_files(folder, split or self.default_split, default=self.default_split))

    def files(self, folder: Path, split: str | None, language: str) -> list[Path]:
        """Return the file of a language."""
        return [text_files(folder, split or self.default_split, default=self.default_split)[language]]

    def repairs(self, folder: Path, ref: TaskRef) -> Mapping[str, int]:
        """Return what the reader does to the texts."""
        (path,) = self.files(folder, ref.split, ref.data_language)
        return read_texts(path).repairs

    def items(self, folder: Path, ref: TaskRef, *, seed: int) -> ItemSet:
        """Make an item of each of the first `limit` sentences."""
        del seed
        (path,) = self.files(folder, ref.split, ref.data_language)
        items = [
            Item(doc_id=str(text.at), calls=(ScoreCall(context="", continuation=text.text),))
            for text in read_texts(path).items[: ref.limit]
        ]
        return ItemSet(items=tuple(items), left_out=0)

    def sample(self, item: Item, answers: Sequence[Answer]) -> Sample:
        """Return the mean over a sentence's tokens."""
        if (sample := failed_sample(item, answers)) is not None:
            return sample
        (answer,) = answers
        return scored_sample(item, answers, score=-sum(answer.logprobs) / len(answer.logprobs))
