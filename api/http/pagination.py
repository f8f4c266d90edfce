"""Pages of lists, in the schema of OpenAI's API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from fastapi import Query

After = Annotated[str | None, Query(max_length=200, description="Return the entries that follow the one with this id.")]
Limit = Annotated[int, Query(ge=1, le=1000, description="Maximum number of entries to return.")]


def list_object(data: Sequence[Mapping[str, Any]], *, has_more: bool = False) -> dict[str, Any]:
    """Return the list object of one page of entries, each of which has an `id`."""
    return {
        "object": "list",
        "data": list(data),
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": has_more,
    }
