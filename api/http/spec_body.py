"""Bodies that are a spec: JSON, or YAML if the `Content-Type` says so, whose errors have a line and a column."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Annotated

import yaml
from fastapi import Depends, Request

from ampsweep.documents import parse_yaml, yaml_position, yaml_problem
from ampsweep.errors import InvalidRequest
from api.http.json_body import MAX_DEPTH, check_values, json_body, parse_json

YAML_TYPES = ("application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml")
"""The media types of YAML: that of RFC 9512, and those in use before it."""
SPEC_TYPES = ("application/json", YAML_TYPES[0])
"""The media types of a spec, as the OpenAPI document names them."""
MAX_YAML_BYTES = 256 * 1024
"""Maximum length of a YAML body in bytes. Parsing this much takes about two seconds."""


@dataclass(frozen=True, kw_only=True)
class SpecBody:
    """The body of a request.

    Attributes:
        value: The parsed body.
        text: The text of a YAML body; None for JSON.
    """

    value: object
    text: str | None

    @contextmanager
    def located(self) -> Iterator[None]:
        """Add the line and the column of the field to an InvalidRequest that is raised about a YAML body."""
        try:
            yield
        except InvalidRequest as error:
            position = None if self.text is None or error.param is None else yaml_position(self.text, error.param)
            if position is not None:
                error.message += f" (line {position[0]}, column {position[1]})"
            raise


async def _spec_body(request: Request) -> SpecBody:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type not in YAML_TYPES:
        return SpecBody(value=await json_body(request), text=None)
    return await asyncio.to_thread(_from_yaml, await request.body())


ParsedSpec = Annotated[SpecBody, Depends(_spec_body)]
"""The parsed body of a request that has a spec."""


def _from_yaml(body: bytes) -> SpecBody:
    """Parse a YAML body.

    Raises:
        InvalidRequest: The body is too long, not UTF-8, not YAML, or has an alias or a value that JSON cannot have.
    """
    if len(body) > MAX_YAML_BYTES:
        raise InvalidRequest(f"the body has more than {MAX_YAML_BYTES} bytes of YAML; send it as JSON")
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:  # as UTF-16 has, which may be valid UTF-8
        raise InvalidRequest("the body is not UTF-8 text; save it as UTF-8")
    if text.lstrip().startswith("{"):
        with suppress(InvalidRequest):  # YAML does not allow tabs to indent, and JSON does
            return SpecBody(value=parse_json(body), text=None)
    try:
        _check_structure(text)
        value = parse_yaml(text)
    except yaml.YAMLError as error:
        raise InvalidRequest(f"the body is not valid YAML: {yaml_problem(error)}") from None
    check_values(value)
    return SpecBody(value=value, text=text)


def _check_structure(text: str) -> None:
    """Raise a YAMLError for an alias or deep nesting.

    A short text of nested aliases stands for gigabytes, and the parser takes minutes for thousands of levels, so both
    are found while it reads.
    """
    depth = 0
    try:
        for event in yaml.parse(text, yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent):
                raise yaml.YAMLError(f"aliases (*) are not accepted; repeat the value{_where(event)}")
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_DEPTH:
                raise yaml.YAMLError(f"it is nested deeper than {MAX_DEPTH} levels{_where(event)}")
    except ValueError as error:  # an escape that is not a character
        raise yaml.YAMLError(str(error)) from error


def _where(event: yaml.Event) -> str:
    mark = event.start_mark
    return "" if mark is None else f" (line {mark.line + 1}, column {mark.column + 1})"
