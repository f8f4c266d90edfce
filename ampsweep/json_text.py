"""Writes JSON that every parser reads: without NaN and infinite numbers, which JSON cannot express."""

from __future__ import annotations

import json
import math
from typing import Any


def json_text(value: Any, *, only_ascii: bool = False) -> str:
    """Return a value as JSON on one line, with null in place of NaN and infinite numbers.

    With `only_ascii`, other characters are escaped, for an output that may not be able to encode them.
    """
    try:
        return json.dumps(value, ensure_ascii=only_ascii, allow_nan=False)
    except ValueError:
        return json.dumps(finite(value), ensure_ascii=only_ascii)


def finite(value: Any) -> Any:
    """Return a value with None in place of NaN and infinite numbers, at any depth of dicts, lists and tuples."""
    if isinstance(value, dict):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
