"""XCOPA: which of two options is the more plausible cause or effect of a premise."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jobs.cell import TaskRef
from jobs.data.xcopa_files import XcopaItem, read_xcopa, xcopa_files
from jobs.metrics.accuracy import Accuracy
from jobs.metrics.metric import Metric
from jobs.requests import Answer, ScoreCall
from jobs.sample import Sample
from jobs.tasks.base import Item, ItemSet, OfFiles
from jobs.tasks.choice import chosen

CONNECTORS = {
    "et": {"cause": "sest", "effect": "seetõttu"},
    "ht": {"cause": "poukisa", "effect": "donk sa"},
    "id": {"cause": "karena", "effect": "maka"},
    "it": {"cause": "perché", "effect": "quindi"},
    "qu": {"cause": "imataq", "effect": "chaymi"},
    "sw": {"cause": "kwa sababu", "effect": "kwa hiyo"},
    "ta": {"cause": "காரணமாக", "effect": "எனவே"},
    "th": {"cause": "เพราะ", "effect": "ดังนั้น"},
    "tr": {"cause": "çünkü", "effect": "bu yüzden"},
    "vi": {"cause": "bởi vì", "effect": "vì vậy"},
    "zh": {"cause": "因为", "effect": "所以"},
}


class Xcopa(OfFiles):
    """The premise without its last character, a connector, then each option with a lower-case first letter.

    `prediction` and `gold` are "0" or "1"; `score` is the predicted option's log-probability (the sum over its tokens,
    in nats), the larger of the two; of equal ones the first is predicted. A limit takes the first items of the file,
    which are the same in every language. In the mode `paper` the question is the published one, also where it is wrong.
    """

    name = "xcopa"
    version = 1
    metrics: tuple[Metric, ...] = (Accuracy(),)
    compares = False
    default_data = "xcopa"
    default_split = "test"

    def __init__(self, *, paper: bool = False) -> None:
        self._paper = paper

    def languages(self, folder: Path, split: str | None) -> frozenset[str]:
        """Return the languages that have a file and connectors."""
        assert split is not None
        return frozenset(xcopa_files(folder, split)) & frozenset(CONNECTORS)

    def files(self, folder: Path, split: str | None, language: str) -> list[Path]:
        """Return the file of a language."""
        assert split is not None
        return [xcopa_files(folder, split)[language]]

    def items(self, folder: Path, ref: TaskRef, *, seed: int) -> ItemSet:
        """Make an item of each of the first `limit` lines."""
        del seed
        (path,) = self.files(folder, ref.split, ref.data_language)
        items = [_item(row, ref.data_language) for row in read_xcopa(path, source=self._paper)[: ref.limit]]
        return ItemSet(items=tuple(items), left_out=0)

    def sample(self, item: Item, answers: Sequence[Answer]) -> Sample:
        """Predict the option with the larger sum of log-probabilities."""
        return chosen(item, answers, label=item.meta["label"])


def _item(row: XcopaItem, language: str) -> Item:
    context = f"{row.premise[:-1]} {CONNECTORS[language][row.question]}"
    calls = tuple(
        ScoreCall(context=context, continuation=f" {option[0].lower()}{option[1:]}") for option in row.options
    )
    return Item(doc_id=row.id, calls=calls, meta={"label": row.label})
