"""XCOPA: which of two options is the more plausible cause or effect of a premise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ampsweep.hashing import content_hash
from jobs.cell import TaskRef
from jobs.data.rows import Reading, repairs
from jobs.data.xcopa_files import Question, XcopaItem, questions_of_most, read_xcopa, xcopa_files
from jobs.metrics.accuracy import Accuracy
from jobs.metrics.base import Metric
from jobs.sample import Sample
from jobs.tasks.base import FileTask, Item, ItemSet
from jobs.tasks.choice import chosen
from jobs.tasks.requests import Answer, ScoreCall

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

SENTENCE_ENDS = frozenset(".!?…‥‼⁇⁈⁉．！？。｡︒؟۔؞।॥։።፧፨။។៕᠃᠉꓿༎")
"""What ends a sentence, in any script: Unicode's Sentence_Terminal where texts are written with it, and ellipses."""
DOTLESS = frozenset({"az", "tr"})
"""Languages whose I and İ are two letters, in lower case ı and i (Unicode's SpecialCasing.txt)."""
_IN_LOWER_CASE = {"I": "ı", "İ": "i"}


class Xcopa(FileTask):
    """The premise without its full stop, a connector, then each option with a lower-case first letter.

    `prediction` and `gold` are "0" or "1"; `score` is the predicted option's log-probability (the sum over its tokens,
    in nats), the larger of the two; of equal ones the first is predicted. A limit takes the first items of the file,
    which are the same in every language. The question is that of most languages (`questions_of_most`).

    In the mode `paper` it is the published one, also where it is wrong; the premise loses its last character whatever
    that is, and letters become lower case as in English.
    """

    name = "xcopa"
    metrics: tuple[Metric, ...] = (Accuracy(),)
    needs_target_language = False
    default_data = "xcopa"
    default_split = "test"

    def __init__(self, *, paper: bool = False) -> None:
        self._paper = paper
        self.version = 2 if paper else 3

    def languages(self, folder: Path, split: str | None) -> frozenset[str]:
        """Return the languages that have a file and connectors."""
        assert split is not None
        return frozenset(xcopa_files(folder, split)) & frozenset(CONNECTORS)

    def files(self, folder: Path, split: str | None, language: str) -> list[Path]:
        """Return the file of a language."""
        assert split is not None
        return [xcopa_files(folder, split)[language]]

    def resolve(self, folder: Path, ref: TaskRef) -> TaskRef:
        """Return a reference with the hash of its file, and of the questions that other files put right."""
        settled = super().resolve(folder, ref)
        questions = self._questions_of_most(folder, ref)
        if not questions:
            return settled
        return replace(settled, data_hash=content_hash([settled.data_hash, questions], length=64))

    def repairs(self, folder: Path, ref: TaskRef) -> Mapping[str, int]:
        """Return what the reader does to the rows, and how many questions are not the file's own."""
        questions = self._questions_of_most(folder, ref)
        return {**self._read(folder, ref).repairs, **repairs(questions=len(questions))}

    def items(self, folder: Path, ref: TaskRef, *, seed: int) -> ItemSet:
        """Make an item of each of the first `limit` lines."""
        del seed
        questions = self._questions_of_most(folder, ref)
        rows = self._read(folder, ref).items[: ref.limit]
        items = [self._item(row, questions.get(row.id, row.question), ref.data_language) for row in rows]
        return ItemSet(items=tuple(items), left_out=0)

    def sample(self, item: Item, answers: Sequence[Answer]) -> Sample:
        """Predict the option with the larger sum of log-probabilities."""
        return chosen(item, answers, label=item.meta["label"])

    def _read(self, folder: Path, ref: TaskRef) -> Reading[XcopaItem]:
        (path,) = self.files(folder, ref.split, ref.data_language)
        return read_xcopa(path, source=self._paper)

    def _questions_of_most(self, folder: Path, ref: TaskRef) -> dict[str, Question]:
        assert ref.split is not None
        return {} if self._paper else questions_of_most(xcopa_files(folder, ref.split), ref.data_language)

    def _item(self, row: XcopaItem, question: Question, language: str) -> Item:
        premise = row.premise[:-1] if self._paper or row.premise[-1] in SENTENCE_ENDS else row.premise
        context = f"{premise} {CONNECTORS[language][question]}"
        lower_case = _IN_LOWER_CASE if language in DOTLESS and not self._paper else {}
        calls = tuple(
            ScoreCall(context=context, continuation=f" {lower_case.get(option[0], option[0].lower())}{option[1:]}")
            for option in row.options
        )
        return Item(doc_id=row.id, calls=calls, meta={"label": row.label})
