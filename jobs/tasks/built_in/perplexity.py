"""Perplexity of a language's sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from jobs.cell import TaskRef
from jobs.data.texts import read_texts
from jobs.metrics.base import Metric
from jobs.metrics.mean import NLL, PERPLEXITY
from jobs.sample import Sample
from jobs.tasks.base import Item, ItemSet
from jobs.tasks.file_task import TextFileTask
from jobs.tasks.requests import Answer, ScoreCall
from jobs.tasks.scoring import failed_sample, scored_sample


class Perplexity(TextFileTask):
    """Scores each sentence by itself, after the model's beginning-of-sequence token.

    `score` is the mean negative log-probability of the sentence's tokens, in nats. The metric `perplexity` is the mean
    of exp(score) over sentences; `nll` is the mean of the score, which the mode `paper` calls perplexity. A limit takes
    the first sentences, which are the same in every language of an aligned corpus.
    """

    name = "perplexity"
    version = 2
    supports_chat = False

    def __init__(self, *, paper: bool = False) -> None:
        self.metrics: tuple[Metric, ...] = (replace(NLL, name="perplexity"),) if paper else (PERPLEXITY, NLL)

    def items(self, folder: Path, ref: TaskRef, *, seed: int) -> ItemSet:
        """Make an item of each of the first `limit` sentences."""
        del seed
        (path,) = self.files(folder, ref.split, ref.data_language)
        items = [
            Item(doc_id=str(text.index), calls=(ScoreCall(context="", continuation=text.text),))
            for text in read_texts(path).items[: ref.limit]
        ]
        return ItemSet(items=tuple(items), left_out=0)

    def sample(self, item: Item, answers: Sequence[Answer]) -> Sample:
        """Return the mean negative log-probability of the sentence's tokens."""
        if (sample := failed_sample(item, answers)) is not None:
            return sample
        (answer,) = answers
        return scored_sample(item, answers, score=-sum(answer.logprobs) / len(answer.logprobs))
