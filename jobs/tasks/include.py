"""INCLUDE: questions of local exams, asked in the language, with four options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from jobs.cell import TaskRef
from jobs.data.include_files import IncludeItem, read_include
from jobs.metrics.accuracy import Accuracy
from jobs.metrics.base import Metric
from jobs.sample import Sample
from jobs.tasks.base import Item, ItemSet
from jobs.tasks.by_language import ByLanguage
from jobs.tasks.choice import chosen
from jobs.tasks.requests import Answer, ScoreCall

LETTERS = "ABCD"


class Include(ByLanguage):
    """The question, a line an option (`A) ...`), then `Answer:`; scored are the letters.

    A limit takes the first items of the file.
    """

    name = "include"
    version = 2
    metrics: tuple[Metric, ...] = (Accuracy(),)
    default_data = "include"

    def repairs(self, folder: Path, ref: TaskRef) -> Mapping[str, int]:
        """Return what the reader does to the rows."""
        (path,) = self.files(folder, ref.split, ref.data_language)
        return read_include(path).repairs

    def items(self, folder: Path, ref: TaskRef, *, seed: int) -> ItemSet:
        """Make an item of each of the first `limit` rows."""
        del seed
        (path,) = self.files(folder, ref.split, ref.data_language)
        return ItemSet(items=tuple(_item(row) for row in read_include(path).items[: ref.limit]), left_out=0)

    def sample(self, item: Item, answers: Sequence[Answer]) -> Sample:
        """Predict the option with the likeliest letter."""
        return chosen(item, answers, label=item.meta["label"])


def _item(row: IncludeItem) -> Item:
    options = "\n".join(f"{letter}) {option}" for letter, option in zip(LETTERS, row.options, strict=True))
    context = f"{row.question}\n{options}\nAnswer:"
    calls = tuple(ScoreCall(context=context, continuation=f" {letter}") for letter in LETTERS)
    return Item(doc_id=row.id, calls=calls, meta={"label": row.label})
