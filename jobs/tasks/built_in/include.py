"""INCLUDE: questions of local exams, asked in their language, with four options each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ampsweep.hashing import cached_hash
from jobs.cell import TaskRef
from jobs.data.rows import Reading, Row, distinct, read_rows, repairs
from jobs.metrics.accuracy import Accuracy
from jobs.metrics.base import Metric
from jobs.sample import Sample
from jobs.tasks.base import Item, ItemSet
from jobs.tasks.file_task import LanguageFileTask
from jobs.tasks.requests import Answer, ScoreCall
from jobs.tasks.scoring import choose_likeliest

LETTERS = "ABCD"


class Include(LanguageFileTask):
    """Asks the question, one line for each option (`A) ...`), then `Answer:`, and scores the four letters.

    A limit takes the first items of the file.
    """

    name = "include"
    version = 2
    metrics: tuple[Metric, ...] = (Accuracy(),)
    default_data = "include"

    def repairs(self, folder: Path, ref: TaskRef) -> Mapping[str, int]:
        """Return how often the reader repairs the rows, by kind."""
        (path,) = self.files(folder, ref.split, ref.data_language)
        return read_include(path).repairs

    def items(self, folder: Path, ref: TaskRef, *, seed: int) -> ItemSet:
        """Make an item of each of the first `limit` rows."""
        del seed
        (path,) = self.files(folder, ref.split, ref.data_language)
        return ItemSet(items=tuple(_item(row) for row in read_include(path).items[: ref.limit]), left_out=0)

    def sample(self, item: Item, answers: Sequence[Answer]) -> Sample:
        """Predict the option with the likeliest letter."""
        return choose_likeliest(item, answers, label=item.meta["label"])


@dataclass(frozen=True, kw_only=True)
class IncludeItem:
    """A question with its options; `label` is the index of the right one."""

    id: str
    question: str
    options: tuple[str, ...]
    label: int


def read_include(path: Path) -> Reading[IncludeItem]:
    """Read a file of questions.

    The options are `choices` and the right one is `label`, counted from 0. The collection on the Hugging Face Hub has
    `option_a` to `option_d` and `answer` instead.

    Raises:
        InvalidRequest: A row is wrong; the message names file, line and field.
    """
    return _read(path, cached_hash(path))


def _item(row: IncludeItem) -> Item:
    options = "\n".join(f"{letter}) {option}" for letter, option in zip(LETTERS, row.options, strict=True))
    context = f"{row.question}\n{options}\nAnswer:"
    calls = tuple(ScoreCall(context=context, continuation=f" {letter}") for letter in LETTERS)
    return Item(doc_id=row.id, calls=calls, meta={"label": row.label})


@lru_cache(maxsize=32)
def _read(path: Path, _hash: str) -> Reading[IncludeItem]:
    rows = read_rows(path, required=("question",))
    ids, repeated = distinct([row.id("id", default=index) for index, row in enumerate(rows)])
    items = tuple(_parse(row, doc_id) for row, doc_id in zip(rows, ids, strict=True))
    decimals = sum(isinstance(row.values.get(_label_field(row)), float) for row in rows)
    return Reading(items=items, repairs=repairs(repeated_ids=repeated, decimal_labels=decimals))


def _label_field(row: Row) -> str:
    return "answer" if "answer" in row.values and "label" not in row.values else "label"


def _parse(row: Row, doc_id: str) -> IncludeItem:
    if "choices" in row.values:
        choices = row.values["choices"]
        if not isinstance(choices, list) or len(choices) != len(LETTERS):
            raise row.wrong("choices", f"must be a list of {len(LETTERS)} texts")
        options = tuple(row.a_text(choice, f"choices.{index}") for index, choice in enumerate(choices))
    else:
        options = tuple(row.text(f"option_{letter.lower()}") for letter in LETTERS)
    return IncludeItem(
        id=doc_id,
        question=row.text("question").strip(),
        options=options,
        label=row.number_below(_label_field(row), len(LETTERS)),
    )
