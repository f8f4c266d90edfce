"""XCOPA's files: `<split>.<language>.jsonl` or its like, the same item in the same row in every language."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from ampsweep.errors import InvalidRequest
from jobs.data.language_files import language_files, read_rows, stem_of

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


def read_xcopa(path: Path, *, source: bool = False) -> list[XcopaItem]:
    """Read one file; InvalidRequest names the row that is wrong.

    With `source` the question is `question_source`, where there is one: what was published, mistakes included.
    """
    rows = read_rows(path, required=("idx", "premise", "choice1", "choice2", "question", "label"))
    return [_item(row, f"{path.name}, item {number}", source=source) for number, row in enumerate(rows, 1)]


def _item(row: dict[str, Any], where: str, *, source: bool) -> XcopaItem:
    question = row.get("question_source", row["question"]) if source else row["question"]
    if question not in get_args(Question) or row["label"] not in (0, 1):
        raise InvalidRequest(f"{where}: question must be cause or effect, label 0 or 1")
    if not all(row[key].strip() for key in ("premise", "choice1", "choice2")):
        raise InvalidRequest(f"{where}: premise and choices must not be empty")
    return XcopaItem(
        id=str(row["idx"]),
        premise=row["premise"].strip(),
        options=(row["choice1"].strip(), row["choice2"].strip()),
        question=question,
        label=row["label"],
    )
