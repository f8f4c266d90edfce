"""Options whose value is a JSON object."""

from __future__ import annotations

from typing import Any

from ampsweep.documents import parse_json
from ampsweep.errors import InvalidRequest


def json_object(text: str, *, param: str) -> dict[str, Any]:
    """Parse the value of an option; raise InvalidRequest if it is not a JSON object."""
    try:
        content = parse_json(text, source="--" + param, param=param)
    except ValueError as error:
        raise InvalidRequest(f"is not JSON: {error}", param=param) from error
    if not isinstance(content, dict):
        raise InvalidRequest('must be an object such as {"languages": ["fr"], ...}', param=param)
    return content
