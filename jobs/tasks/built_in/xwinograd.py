"""XWinograd: sentences in which one of two options fills a gap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ampsweep.hashing import cached_hash
from jobs.cell import TaskRef
from jobs.data.rows import Reading, Row, distinct, read_rows, repairs, whole
from jobs.metrics.accuracy import Accuracy
from jobs.metrics.base import Metric
from jobs.sample import Sample
from jobs.tasks.base import Item, ItemSet
from jobs.tasks.file_task import LanguageFileTask
from jobs.tasks.requests import Answer, ScoreCall
from jobs.tasks.scoring import choose_likeliest

GAP = "_"


class Xwinograd(LanguageFileTask):
    """Scores what follows the gap, after the sentence up to the gap with each option in it.

    The scored text is the same for both options. If a token spans the end of an option and what follows it, both
    options are scored with that token.

    A limit takes the first items of the file. Sentences that end with the gap have nothing to score; they are left out
    and counted.
    """

    name = "xwinograd"
    version = 2
    metrics: tuple[Metric, ...] = (Accuracy(),)
    default_data = "xwinograd"

    def repairs(self, folder: Path, ref: TaskRef) -> Mapping[str, int]:
        """Return how often the reader repairs the rows, by kind."""
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
        return choose_likeliest(item, answers, label=item.meta["label"])


@dataclass(frozen=True, kw_only=True)
class XwinogradItem:
    """The text before and after the gap, and two options; `label` is the index of the right one."""

    id: str
    before: str
    after: str
    options: tuple[str, str]
    label: int


def read_xwinograd(path: Path) -> Reading[XwinogradItem]:
    """Read a file of sentences.

    The right option is `label` (0 or 1), or `answer` ("1" or "2") as in the collection on the Hugging Face Hub.

    Raises:
        InvalidRequest: A row is wrong; the message names file, line and field.
    """
    return _read(path, cached_hash(path))


def _item(row: XwinogradItem) -> Item:
    calls = tuple(ScoreCall(context=f"{row.before}{option}", continuation=row.after) for option in row.options)
    return Item(doc_id=row.id, calls=calls, meta={"label": row.label})


@lru_cache(maxsize=32)
def _read(path: Path, _hash: str) -> Reading[XwinogradItem]:
    rows = read_rows(path, required=("sentence", "option1", "option2"))
    ids, repeated = distinct([row.id("id", default=index) for index, row in enumerate(rows)])
    items = tuple(_parse(row, doc_id) for row, doc_id in zip(rows, ids, strict=True))
    decimals = sum(isinstance(row.values.get("label"), float) for row in rows)
    return Reading(items=items, repairs=repairs(repeated_ids=repeated, decimal_labels=decimals))


def _parse(row: Row, doc_id: str) -> XwinogradItem:
    if "label" in row.values:
        label = row.number_below("label", 2)
    else:
        answer = {"1": 0, "2": 1}.get(str(whole(row.values.get("answer"))))
        if answer is None:
            raise row.wrong("answer", "must be 1 or 2 (or label 0 or 1)")
        label = answer
    before, gap, after = row.text("sentence").partition(GAP)
    if not gap or GAP in after:
        raise row.wrong("sentence", f"must have exactly one {GAP}")
    return XwinogradItem(
        id=doc_id,
        before=before,
        after=after.rstrip(),
        options=(row.text("option1"), row.text("option2")),
        label=label,
    )
