"""Files of one JSON object a line."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ampsweep.errors import InvalidRequest
from ampsweep.folders.text import read_lines


def read_jsonl(path: Path, *, required: Iterable[str]) -> list[dict[str, Any]]:
    """Return the objects of a `.jsonl` or `.jsonl.gz` file in order, each of which has the `required` keys.

    Raises InvalidRequest naming the file and row.
    """
    return [_row(line, f"{path.name}, row {number}", required) for number, line in enumerate(read_lines(path), 1)]


def _row(line: str, where: str, required: Iterable[str]) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise InvalidRequest(f"{where} is not JSON: {error}") from error
    if not isinstance(row, dict) or (missing := [key for key in required if key not in row]):
        lacking = missing if isinstance(row, dict) else list(required)
        raise InvalidRequest(f"{where} must be an object with {', '.join(lacking)}")
    return row
