"""JSON bodies: parses those of requests, and serializes long ones of responses outside the event loop.

A parsed body can be stored, hashed and sent back: its numbers are finite, its text is valid Unicode and its depth is
bounded.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable, Iterator
from typing import Annotated

from fastapi import Depends, Request
from starlette.responses import JSONResponse

from ampsweep.documents import json_problem, unique_keys
from ampsweep.errors import InvalidRequest

MAX_DEPTH = 32
"""Levels of nesting of a body."""
MAX_INTEGER = 2**64
"""Largest absolute value of an integer."""
_LARGE = 64 * 1024
"""Bodies of at least this many bytes are parsed in a thread, because parsing megabytes takes a second."""


async def json_body(request: Request) -> object:
    """Parse the body of a request; raise InvalidRequest as `parse_json` does."""
    body = await request.body()
    return parse_json(body) if len(body) < _LARGE else await asyncio.to_thread(parse_json, body)


JsonBody = Annotated[object, Depends(json_body)]
"""The parsed JSON body of a request."""


def parse_json(body: bytes) -> object:
    """Parse JSON text.

    Raises:
        InvalidRequest: The text is not JSON, has NaN, an infinite number or an integer above MAX_INTEGER, a duplicate
            key in an object, a lone surrogate, or nesting deeper than MAX_DEPTH.
    """
    try:
        value: object = json.loads(body, object_pairs_hook=unique_keys, parse_constant=_no_constant)
    except InvalidRequest:
        raise
    except RecursionError:
        raise InvalidRequest(f"the body is nested deeper than {MAX_DEPTH} levels") from None
    except ValueError as error:
        raise InvalidRequest(f"the body is not valid JSON: {json_problem(error)}") from None
    check_values(value)
    return value


def _no_constant(name: str) -> object:
    raise InvalidRequest(f"{name} is not valid JSON; numbers must be finite")


class _Path:
    """The path of a value in the body. It is formatted only for an error, because keys may be long."""

    __slots__ = ("_key", "_parent", "depth")

    def __init__(self, parent: _Path | None, key: object) -> None:
        self._parent = parent
        self._key = key
        self.depth: int = 1 if parent is None else parent.depth + 1

    def __str__(self) -> str:
        return str(self._key) if self._parent is None else f"{self._parent}.{self._key}"


def check_values(value: object) -> None:
    """Check every value of a parsed body.

    The memory this takes does not depend on the number of values, and nothing is called recursively: neither many
    values nor deep nesting can exhaust the server.

    Raises:
        InvalidRequest: About a number, a text or the nesting, as in `parse_json`.
    """
    _check_scalar(value, None)
    outer: list[tuple[Iterator[tuple[object, object]], _Path | None]] = [(_entries(value), None)]
    while outer:
        entries, path = outer[-1]
        for key, inner in entries:
            if type(key) is not int or abs(key) > MAX_INTEGER:  # not the position in a list
                _check_scalar(key, path)
            if type(inner) is int and abs(inner) <= MAX_INTEGER:  # no path for each of many token ids
                continue
            inner_path = _Path(path, key)
            _check_scalar(inner, inner_path)
            if inner and isinstance(inner, dict | list):
                if inner_path.depth >= MAX_DEPTH:
                    raise InvalidRequest(f"the body is nested deeper than {MAX_DEPTH} levels")
                outer.append((_entries(inner), inner_path))
                break
        else:
            outer.pop()


def _entries(value: object) -> Iterator[tuple[object, object]]:
    """Yield the keys and values of an object, the positions and items of a list, and nothing of any other value."""
    if isinstance(value, dict):
        return iter(value.items())
    return iter(enumerate(value)) if isinstance(value, list) else iter(())


def _check_scalar(value: object, path: _Path | None) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise _invalid_value("numbers must be finite", path)
    if isinstance(value, int) and abs(value) > MAX_INTEGER:
        raise _invalid_value("integers must fit in 64 bits", path)
    if isinstance(value, str) and not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise _invalid_value("text must be valid Unicode, without lone surrogates", path) from None


def _invalid_value(message: str, path: _Path | None) -> InvalidRequest:
    return InvalidRequest(message, param=None if path is None else str(path))


async def json_response(content: Callable[[], object]) -> JSONResponse:
    """Return a response with the value of `content`, which is called and serialized in a thread."""
    return await asyncio.to_thread(lambda: JSONResponse(content()))
