"""XWinograd's files: `<language>.jsonl`, sentences in which one `_` stands for one of two options."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ampsweep.folders.file_hashes import cached_hash
from jobs.data.rows import Reading, Row, distinct, read_rows, repairs, whole

GAP = "_"


@dataclass(frozen=True, kw_only=True)
class XwinogradItem:
    """What stands before and after the gap, the two options, which of them (0 or 1) is meant."""

    id: str
    before: str
    after: str
    options: tuple[str, str]
    label: int


def read_xwinograd(path: Path) -> Reading[XwinogradItem]:
    """Read one file; InvalidRequest names what is wrong with which line.

    The right option is `label` (0 or 1), or `answer` ("1" or "2") as the collection on the Hugging Face Hub has it.
    """
    return _read(path, cached_hash(path))


@lru_cache(maxsize=32)
def _read(path: Path, _hash: str) -> Reading[XwinogradItem]:
    rows = read_rows(path, required=("sentence", "option1", "option2"))
    ids, repeated = distinct([row.id("id", default=at) for at, row in enumerate(rows)])
    items = tuple(_item(row, name) for row, name in zip(rows, ids, strict=True))
    decimals = sum(isinstance(row.values.get("label"), float) for row in rows)
    return Reading(items=items, repairs=repairs(repeated_ids=repeated, decimal_labels=decimals))


def _item(row: Row, name: str) -> XwinogradItem:
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
        id=name,
        before=before,
        after=after.rstrip(),
        options=(row.text("option1"), row.text("option2")),
        label=label,
    )
