"""A request's body as JSON that can be stored, hashed and sent back: finite numbers, valid text, bounded depth."""

from __future__ import annotations

import json
import math
from typing import Annotated, Any

from fastapi import Depends, Request

from ampsweep.errors import InvalidRequest

MAX_DEPTH = 32
MAX_INTEGER = 2**64


async def json_body(request: Request) -> object:
    """Read the body; InvalidRequest for anything that is not plain JSON."""
    return parse_json(await request.body())


JsonBody = Annotated[object, Depends(json_body)]


def parse_json(body: bytes) -> object:
    """Parse JSON text.

    Raises InvalidRequest for bytes that are no JSON, NaN and numbers out of range, a key that stands twice in an
    object, text with lone surrogates, and nesting deeper than MAX_DEPTH.
    """
    try:
        value: object = json.loads(body, object_pairs_hook=_object, parse_constant=_no_constant)
    except InvalidRequest:
        raise
    except RecursionError:
        raise InvalidRequest(f"the body is nested deeper than {MAX_DEPTH} levels") from None
    except ValueError as error:
        raise InvalidRequest(f"the body is not valid JSON: {error}") from None
    _check(value)
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise InvalidRequest(f"the key {twice!r} stands twice in one object", param=twice)
    return found


def _no_constant(name: str) -> object:
    raise InvalidRequest(f"{name} is not valid JSON; numbers must be finite")


def _check(value: object) -> None:
    """Walk through a value without recursion, so that its depth cannot break the walk."""
    waiting: list[tuple[object, str | None, int]] = [(value, None, 0)]
    while waiting:
        value, path, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise InvalidRequest(f"the body is nested deeper than {MAX_DEPTH} levels")
        if isinstance(value, dict):
            for key, inner in value.items():
                _check_scalar(key, path)
                waiting.append((inner, f"{path}.{key}" if path else key, depth + 1))
        elif isinstance(value, list):
            waiting += [
                (inner, f"{path}.{index}" if path else str(index), depth + 1) for index, inner in enumerate(value)
            ]
        else:
            _check_scalar(value, path)


def _check_scalar(value: object, path: str | None) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidRequest("numbers must be finite", param=path)
    if isinstance(value, int) and abs(value) > MAX_INTEGER:
        raise InvalidRequest("whole numbers must fit in 64 bits", param=path)
    if isinstance(value, str) and not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise InvalidRequest("text must be valid Unicode, without lone surrogates", param=path) from None
