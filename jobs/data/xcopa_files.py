"""XCOPA's files: `<split>.<language>.jsonl`, the same item on the same line in every language."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from ampsweep.errors import InvalidRequest
from jobs.data.jsonl import read_jsonl

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
    names = [path.name.split(".") for path in sorted(folder.glob("*.jsonl"))] if folder.is_dir() else []
    found = {parts[1]: folder / ".".join(parts) for parts in names if len(parts) == 3 and parts[0] == split}
    if not found:
        splits = ", ".join(sorted({parts[0] for parts in names if len(parts) == 3})) or "none"
        raise InvalidRequest(f"xcopa has no split {split!r} in {folder.name}; splits there: {splits}")
    return found


def read_xcopa(path: Path) -> list[XcopaItem]:
    """Read one file; InvalidRequest names the line that is wrong."""
    rows = read_jsonl(path, required=("idx", "premise", "choice1", "choice2", "question", "label"))
    for number, row in enumerate(rows, 1):
        if row["question"] not in get_args(Question) or row["label"] not in (0, 1):
            raise InvalidRequest(f"{path.name}, item {number}: question must be cause or effect, label 0 or 1")
        if not all(row[key].strip() for key in ("premise", "choice1", "choice2")):
            raise InvalidRequest(f"{path.name}, item {number}: premise and choices must not be empty")
    return [
        XcopaItem(
            id=str(row["idx"]),
            premise=row["premise"].strip(),
            options=(row["choice1"].strip(), row["choice2"].strip()),
            question=row["question"],
            label=row["label"],
        )
        for row in rows
    ]
