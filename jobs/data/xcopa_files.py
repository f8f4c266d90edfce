"""XCOPA's files: `<split>.<language>.jsonl` or its like, the same item in the same row in every language."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal, get_args

from ampsweep.errors import InvalidRequest
from ampsweep.folders.file_hashes import cached_hash
from jobs.data.language_files import language_files, stem_of
from jobs.data.rows import Reading, Row, distinct, read_rows, repairs

Question = Literal["cause", "effect"]


@dataclass(frozen=True, kw_only=True)
class XcopaItem:
    """A premise, two options, which of them (0 or 1) is its more plausible cause or effect."""

    id: str
    premise: str
    options: tuple[str, str]
    question: Question
    label: int


def xcopa_files(folder: Path, split: str) -> dict[str, Path]:
    """Return the files of a split by language; InvalidRequest listing the splits that are there."""
    try:
        return language_files(folder, split=split)
    except InvalidRequest:
        stems = [stem_of(path) or "" for path in folder.iterdir()] if folder.is_dir() else []
        splits = sorted({stem.split(".")[0] for stem in stems if "." in stem})
        if split in splits:
            raise
        there = ", ".join(splits) or "none"
        raise InvalidRequest(f"xcopa has no split {split!r} in {folder.name}; splits there: {there}") from None


def read_xcopa(path: Path, *, source: bool = False) -> Reading[XcopaItem]:
    """Read one file; InvalidRequest names what is wrong with which line.

    With `source` the question is `question_source`, where there is one: what was published, mistakes included.
    """
    return _read(path, source, cached_hash(path))


def questions_of_most(files: Mapping[str, Path], language: str) -> dict[str, Question]:
    """Return, by item, the questions of a language that differ from those of more than half of the languages.

    Published questions are wrong in some languages. Files vote that have the same items in their `idx` with the same
    labels: they are translations of each other. A file that cannot be read has no vote.
    """
    own = {item.id: item for item in read_xcopa(files[language]).items}
    ballots = []
    for path in files.values():
        with suppress(InvalidRequest):
            items = {item.id: item for item in read_xcopa(path).items}
            if {name: item.label for name, item in items.items()} == {name: item.label for name, item in own.items()}:
                ballots.append(items)
    found: dict[str, Question] = {}
    for name, item in own.items():
        ((question, votes),) = Counter(ballot[name].question for ballot in ballots).most_common(1)
        if question != item.question and 2 * votes > len(ballots):
            found[name] = question
    return found


@lru_cache(maxsize=64)
def _read(path: Path, source: bool, _hash: str) -> Reading[XcopaItem]:
    rows = read_rows(path, required=("idx", "premise", "choice1", "choice2", "question", "label"))
    ids, repeated = distinct([row.id("idx") for row in rows])
    items = tuple(_item(row, name, source=source) for row, name in zip(rows, ids, strict=True))
    return Reading(
        items=items,
        repairs=repairs(
            repeated_ids=repeated, decimal_labels=sum(isinstance(row.values["label"], float) for row in rows)
        ),
    )


def _item(row: Row, name: str, *, source: bool) -> XcopaItem:
    field = "question_source" if source and row.values.get("question_source") is not None else "question"
    question = row.values[field]
    if question not in get_args(Question):
        raise row.wrong(field, "must be cause or effect")
    return XcopaItem(
        id=name,
        premise=row.full_text("premise"),
        options=(row.full_text("choice1"), row.full_text("choice2")),
        question=question,
        label=row.number_below("label", 2),
    )
