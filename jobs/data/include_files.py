"""INCLUDE's files: `<language>.jsonl`, exam questions with four options."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ampsweep.folders.file_hashes import cached_hash
from jobs.data.rows import Reading, Row, distinct, read_rows, repairs

OPTIONS = 4


@dataclass(frozen=True, kw_only=True)
class IncludeItem:
    """A question, its four options, which of them (0 to 3) is right."""

    id: str
    question: str
    options: tuple[str, ...]
    label: int


def read_include(path: Path) -> Reading[IncludeItem]:
    """Read one file; InvalidRequest names what is wrong with which line.

    The options are `choices` and the right one is `label`, counted from 0; or, as the collection on the Hugging Face
    Hub has it, `option_a` to `option_d` and `answer`.
    """
    return _read(path, cached_hash(path))


@lru_cache(maxsize=32)
def _read(path: Path, _hash: str) -> Reading[IncludeItem]:
    rows = read_rows(path, required=("question",))
    ids, repeated = distinct([row.id("id", default=at) for at, row in enumerate(rows)])
    items = tuple(_item(row, name) for row, name in zip(rows, ids, strict=True))
    decimals = sum(isinstance(row.values.get(_label(row)), float) for row in rows)
    return Reading(items=items, repairs=repairs(repeated_ids=repeated, decimal_labels=decimals))


def _label(row: Row) -> str:
    return "label" if "label" in row.values else "answer"


def _item(row: Row, name: str) -> IncludeItem:
    if "choices" in row.values:
        choices = row.values["choices"]
        if not isinstance(choices, list) or len(choices) != OPTIONS:
            raise row.wrong("choices", f"must be a list of {OPTIONS} texts")
        options = tuple(row.a_text(choice, f"choices.{at}") for at, choice in enumerate(choices))
    else:
        options = tuple(row.text(f"option_{letter}") for letter in "abcd")
    return IncludeItem(
        id=name,
        question=row.text("question").strip(),
        options=options,
        label=row.number_below(_label(row), OPTIONS),
    )
