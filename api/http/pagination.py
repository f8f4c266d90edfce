"""Lists in OpenAI's shape, a page at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from fastapi import Query

After = Annotated[str | None, Query(max_length=200, description="Start behind the entry with this id.")]
Limit = Annotated[int, Query(ge=1, le=1000, description="How many entries to return, at most.")]


def list_object(data: Sequence[Mapping[str, Any]], *, has_more: bool = False) -> dict[str, Any]:
    """Return one page of entries that each have an `id`."""
    return {
        "object": "list",
        "data": list(data),
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": has_more,
    }
