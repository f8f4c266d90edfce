"""XWinograd's files: `<language>.jsonl`, sentences in which one `_` stands for one of two options."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ampsweep.errors import InvalidRequest
from jobs.data.language_files import read_rows

GAP = "_"


@dataclass(frozen=True, kw_only=True)
class XwinogradItem:
    """What stands before and after the gap, the two options, which of them (0 or 1) is meant."""

    id: str
    before: str
    after: str
    options: tuple[str, str]
    label: int


def read_xwinograd(path: Path) -> list[XwinogradItem]:
    """Read one file; InvalidRequest names the row that is wrong.

    The right option is `label` (0 or 1), or `answer` ("1" or "2") as the collection on the Hugging Face Hub has it.
    """
    rows = read_rows(path, required=("sentence", "option1", "option2"))
    return [_item(row, number, path.name) for number, row in enumerate(rows, 1)]


def _item(row: dict[str, Any], number: int, name: str) -> XwinogradItem:
    label = row["label"] if "label" in row else {"1": 0, "2": 1}.get(str(row.get("answer")))
    if label not in (0, 1):
        raise InvalidRequest(f"{name}, row {number}: label must be 0 or 1 (or answer 1 or 2)")
    before, gap, after = row["sentence"].partition(GAP)
    if not gap or GAP in after:
        raise InvalidRequest(f"{name}, row {number}: sentence must have exactly one {GAP}")
    return XwinogradItem(
        id=str(row.get("id", number - 1)),
        before=before,
        after=after.rstrip(),
        options=(row["option1"], row["option2"]),
        label=label,
    )
