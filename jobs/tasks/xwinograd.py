"""XWinograd: which of two things a pronoun means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from jobs.cell import TaskRef
from jobs.data.xwinograd_files import XwinogradItem, read_xwinograd
from jobs.metrics.accuracy import Accuracy
from jobs.metrics.base import Metric
from jobs.sample import Sample
from jobs.tasks.base import Item, ItemSet
from jobs.tasks.by_language import ByLanguage
from jobs.tasks.choice import chosen
from jobs.tasks.requests import Answer, ScoreCall


class Xwinograd(ByLanguage):
    """The sentence up to the gap with each option in it; scored is what follows the gap, the same for both.

    Where a token spans the end of an option and what follows it, both options are scored with it.

    A limit takes the first items of the file. Sentences that end with the gap say nothing: they are left out and
    counted.
    """

    name = "xwinograd"
    version = 2
    metrics: tuple[Metric, ...] = (Accuracy(),)
    default_data = "xwinograd"

    def repairs(self, folder: Path, ref: TaskRef) -> Mapping[str, int]:
        """Return what the reader does to the rows."""
        (path,) = self.files(folder, ref.split, ref.data_language)
        return read_xwinograd(path).repairs

    def items(self, folder: Path, ref: TaskRef, *, seed: int) -> ItemSet:
        """Make an item of each of the first `limit` rows."""
        del seed
        (path,) = self.files(folder, ref.split, ref.data_language)
        rows = read_xwinograd(path).items[: ref.limit]
        items = [_item(row) for row in rows if row.after]
        return ItemSet(items=tuple(items), left_out=len(rows) - len(items))

    def sample(self, item: Item, answers: Sequence[Answer]) -> Sample:
        """Predict the option after which the rest of the sentence is likelier."""
        return chosen(item, answers, label=item.meta["label"])


def _item(row: XwinogradItem) -> Item:
    calls = tuple(ScoreCall(context=f"{row.before}{option}", continuation=row.after) for option in row.options)
    return Item(doc_id=row.id, calls=calls, meta={"label": row.label})
