"""XCOPA: which of two options is the more plausible cause or effect of a premise.

Its files are `<split>.<language>.jsonl`, with the same item in the same row in every language.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal, get_args

from ampsweep.errors import InvalidRequest
from ampsweep.hashing import cached_hash, content_hash
from jobs.cell import TaskRef
from jobs.data.language_files import language_files, stem_of
from jobs.data.rows import Reading, Row, distinct, read_rows, repairs
from jobs.metrics.accuracy import Accuracy
from jobs.metrics.base import Metric
from jobs.sample import Sample
from jobs.tasks.base import Item, ItemSet
from jobs.tasks.file_task import FileTask
from jobs.tasks.requests import Answer, ScoreCall
from jobs.tasks.scoring import choose_likeliest

Question = Literal["cause", "effect"]

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
"""Characters that end a sentence: ellipses, and those with Unicode's property Sentence_Terminal that occur in texts."""
DOTLESS = frozenset({"az", "tr"})
"""Languages in which I and İ are two letters, with the lower-case forms ı and i (Unicode's SpecialCasing.txt)."""
_IN_LOWER_CASE = {"I": "ı", "İ": "i"}


class Xcopa(FileTask):
    """Scores each option, in lower case at its start, after the premise without its full stop and a connector.

    `prediction` and `gold` are "0" or "1". `score` is the sum of the predicted option's token log-probabilities, in
    nats; the option with the larger sum is predicted, and ties go to the first. A limit takes the first items of the
    file, which are the same in every language. The question is the one that most languages have (`majority_questions`).

    In the mode `paper` the published question is asked even if it is wrong, the last character of the premise is cut
    whether or not it ends the sentence, and the first letter is lower-cased by the rules of English.
    """

    name = "xcopa"
    metrics: tuple[Metric, ...] = (Accuracy(),)
    needs_target_language = False
    default_data = "xcopa"
    default_split = "test"
    language_needs = f"a language needs a file of its items, and connectors; there are some for {', '.join(CONNECTORS)}"

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
        """Complete a reference with the hash of its file and of the questions that other files correct."""
        resolved = super().resolve(folder, ref)
        corrected = self._corrected_questions(folder, ref)
        if not corrected:
            return resolved
        return replace(resolved, data_hash=content_hash([resolved.data_hash, corrected], length=64))

    def repairs(self, folder: Path, ref: TaskRef) -> Mapping[str, int]:
        """Return how often the reader repairs the rows, by kind, and how many questions other files correct."""
        corrected = self._corrected_questions(folder, ref)
        return {**self._read(folder, ref).repairs, **repairs(questions=len(corrected))}

    def items(self, folder: Path, ref: TaskRef, *, seed: int) -> ItemSet:
        """Make an item of each of the first `limit` lines."""
        del seed
        corrected = self._corrected_questions(folder, ref)
        rows = self._read(folder, ref).items[: ref.limit]
        items = [self._item(row, corrected.get(row.id, row.question), ref.data_language) for row in rows]
        return ItemSet(items=tuple(items), left_out=0)

    def sample(self, item: Item, answers: Sequence[Answer]) -> Sample:
        """Predict the option with the larger sum of log-probabilities."""
        return choose_likeliest(item, answers, label=item.meta["label"])

    def _read(self, folder: Path, ref: TaskRef) -> Reading[XcopaItem]:
        (path,) = self.files(folder, ref.split, ref.data_language)
        return read_xcopa(path, as_published=self._paper)

    def _corrected_questions(self, folder: Path, ref: TaskRef) -> dict[str, Question]:
        assert ref.split is not None
        return {} if self._paper else majority_questions(xcopa_files(folder, ref.split), ref.data_language)

    def _item(self, row: XcopaItem, question: Question, language: str) -> Item:
        premise = row.premise[:-1] if self._paper or row.premise[-1] in SENTENCE_ENDS else row.premise
        context = f"{premise} {CONNECTORS[language][question]}"
        lower_case = _IN_LOWER_CASE if language in DOTLESS and not self._paper else {}
        calls = tuple(
            ScoreCall(context=context, continuation=f" {lower_case.get(option[0], option[0].lower())}{option[1:]}")
            for option in row.options
        )
        return Item(doc_id=row.id, calls=calls, meta={"label": row.label})


@dataclass(frozen=True, kw_only=True)
class XcopaItem:
    """A premise with two options; `label` is the index of its more plausible cause or effect."""

    id: str
    premise: str
    options: tuple[str, str]
    question: Question
    label: int


def xcopa_files(folder: Path, split: str) -> dict[str, Path]:
    """Return the files of a split by language; raise InvalidRequest, with the splits there are, if it has none."""
    try:
        return language_files(folder, split=split)
    except InvalidRequest:
        stems = [stem_of(path) or "" for path in folder.iterdir()] if folder.is_dir() else []
        splits = sorted({stem.split(".")[0] for stem in stems if "." in stem})
        if split in splits:
            raise
        available = ", ".join(splits) or "none"
        raise InvalidRequest(f"xcopa has no split {split!r} in {folder.name}; splits there: {available}") from None


def read_xcopa(path: Path, *, as_published: bool = False) -> Reading[XcopaItem]:
    """Read a file of premises.

    Args:
        path: The file.
        as_published: Read the question from `question_source` if there is one. It has the published mistakes.

    Raises:
        InvalidRequest: A row is wrong; the message names file, line and field.
    """
    return _read(path, as_published, cached_hash(path))


def majority_questions(files: Mapping[str, Path], language: str) -> dict[str, Question]:
    """Return the question that most languages have, by item, for each item in which a language has another question.

    The published question is wrong in some languages. A file votes if its items have the same `idx` and the same labels
    as the language's, because then they are translations of each other. A file that cannot be read has no vote.
    """
    items = {item.id: item for item in read_xcopa(files[language]).items}
    labels = {doc_id: item.label for doc_id, item in items.items()}
    ballots = []
    for path in files.values():
        with suppress(InvalidRequest):
            translated = {item.id: item for item in read_xcopa(path).items}
            if {doc_id: item.label for doc_id, item in translated.items()} == labels:
                ballots.append(translated)
    corrected: dict[str, Question] = {}
    for doc_id, item in items.items():
        ((question, votes),) = Counter(ballot[doc_id].question for ballot in ballots).most_common(1)
        if question != item.question and 2 * votes > len(ballots):
            corrected[doc_id] = question
    return corrected


@lru_cache(maxsize=64)
def _read(path: Path, as_published: bool, _hash: str) -> Reading[XcopaItem]:
    rows = read_rows(path, required=("idx", "premise", "choice1", "choice2", "question", "label"))
    ids, repeated = distinct([row.id("idx") for row in rows])
    items = tuple(_parse(row, doc_id, as_published=as_published) for row, doc_id in zip(rows, ids, strict=True))
    decimals = sum(isinstance(row.values["label"], float) for row in rows)
    return Reading(items=items, repairs=repairs(repeated_ids=repeated, decimal_labels=decimals))


def _parse(row: Row, doc_id: str, *, as_published: bool) -> XcopaItem:
    field = "question_source" if as_published and row.values.get("question_source") is not None else "question"
    question = row.values[field]
    if question not in get_args(Question):
        raise row.wrong(field, "must be cause or effect")
    return XcopaItem(
        id=doc_id,
        premise=row.full_text("premise"),
        options=(row.full_text("choice1"), row.full_text("choice2")),
        question=question,
        label=row.number_below("label", 2),
    )
