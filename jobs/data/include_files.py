"""INCLUDE's files: `<language>.jsonl`, exam questions with four options."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ampsweep.errors import InvalidRequest
from jobs.data.language_files import read_rows

OPTIONS = 4


@dataclass(frozen=True, kw_only=True)
class IncludeItem:
    """A question, its four options, which of them (0 to 3) is right."""

    id: str
    question: str
    options: tuple[str, ...]
    label: int


def read_include(path: Path) -> list[IncludeItem]:
    """Read one file; InvalidRequest names the row that is wrong.

    The options are `choices` and the right one is `label`, counted from 0; or, as the collection on the Hugging Face
    Hub has it, `option_a` to `option_d` and `answer`.
    """
    rows = read_rows(path, required=("question",))
    return [_item(row, number, path.name) for number, row in enumerate(rows, 1)]


def _item(row: dict[str, Any], number: int, name: str) -> IncludeItem:
    options = row.get("choices", [row.get(f"option_{letter}") for letter in "abcd"])
    if not isinstance(options, list) or len(options) != OPTIONS or not all(isinstance(one, str) for one in options):
        raise InvalidRequest(f"{name}, row {number}: choices must be a list of {OPTIONS}")
    label = row.get("label", row.get("answer"))
    if not isinstance(label, int) or label not in range(OPTIONS):
        raise InvalidRequest(f"{name}, row {number}: label must be 0 to {OPTIONS - 1}")
    return IncludeItem(
        id=str(row.get("id", number - 1)), question=row["question"].strip(), options=tuple(options), label=label
    )
