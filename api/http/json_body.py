"""A request's body as JSON that can be stored, hashed and sent back: finite numbers, valid text, bounded depth."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable
from typing import Annotated

from fastapi import Depends, Request
from starlette.responses import JSONResponse

from ampsweep.documents import unique_keys
from ampsweep.errors import InvalidRequest

MAX_DEPTH = 32
MAX_INTEGER = 2**64
_LARGE = 64 * 1024
"""Bytes from which on a body is read in a thread: one of megabytes takes a second."""


async def json_body(request: Request) -> object:
    """Read the body; InvalidRequest for anything that is not plain JSON."""
    body = await request.body()
    return parse_json(body) if len(body) < _LARGE else await asyncio.to_thread(parse_json, body)


JsonBody = Annotated[object, Depends(json_body)]


def parse_json(body: bytes) -> object:
    """Parse JSON text.

    Raises InvalidRequest for bytes that are no JSON, NaN and numbers out of range, a key that stands twice in an
    object, text with lone surrogates, and nesting deeper than MAX_DEPTH.
    """
    try:
        value: object = json.loads(body, object_pairs_hook=unique_keys, parse_constant=_no_constant)
    except InvalidRequest:
        raise
    except RecursionError:
        raise InvalidRequest(f"the body is nested deeper than {MAX_DEPTH} levels") from None
    except ValueError as error:
        raise InvalidRequest(f"the body is not valid JSON: {error}") from None
    _check(value)
    return value


def _no_constant(name: str) -> object:
    raise InvalidRequest(f"{name} is not valid JSON; numbers must be finite")


class _Place:
    """Where in the body a value stands; written out only when something is wrong there, since keys may be long."""

    __slots__ = ("_above", "_key", "depth")

    def __init__(self, above: _Place | None, key: str | int) -> None:
        self._above = above
        self._key = key
        self.depth: int = 1 if above is None else above.depth + 1

    def __str__(self) -> str:
        return str(self._key) if self._above is None else f"{self._above}.{self._key}"


def _check(value: object) -> None:
    """Walk through a value without recursion, so that its depth cannot break the walk."""
    waiting: list[tuple[object, _Place | None]] = [(value, None)]
    while waiting:
        value, place = waiting.pop()
        if place is not None and place.depth > MAX_DEPTH:
            raise InvalidRequest(f"the body is nested deeper than {MAX_DEPTH} levels")
        if isinstance(value, dict):
            for key, inner in value.items():
                _check_scalar(key, place)
                waiting.append((inner, _Place(place, key)))
        elif isinstance(value, list):
            waiting += [(inner, _Place(place, index)) for index, inner in enumerate(value)]
        else:
            _check_scalar(value, place)


def _check_scalar(value: object, place: _Place | None) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise _wrong("numbers must be finite", place)
    if isinstance(value, int) and abs(value) > MAX_INTEGER:
        raise _wrong("whole numbers must fit in 64 bits", place)
    if isinstance(value, str) and not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise _wrong("text must be valid Unicode, without lone surrogates", place) from None


def _wrong(message: str, place: _Place | None) -> InvalidRequest:
    return InvalidRequest(message, param=None if place is None else str(place))


async def json_response(content: Callable[[], object]) -> JSONResponse:
    """Return the answer with what `content` returns; it is called in a thread."""
    return await asyncio.to_thread(lambda: JSONResponse(content()))
