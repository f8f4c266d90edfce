"""Parses the values of options: lists, pairs and JSON objects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ampsweep.documents import parse_json
from ampsweep.errors import InvalidRequest


def comma_separated(text: str) -> list[str]:
    """Return the items of an option's value, without spaces around them and without empty ones."""
    return [item.strip() for item in text.split(",") if item.strip()]


def json_object(text: str, *, param: str) -> dict[str, Any]:
    """Parse the value of an option; raise InvalidRequest if it is not a JSON object."""
    try:
        content = parse_json(text, source="--" + param, param=param)
    except ValueError as error:
        example = '{"languages": ["fr"], "op": "scale", "factor": 2}'
        raise InvalidRequest(f"is not JSON: {error}; write, for example, {example}", param=param) from error
    if not isinstance(content, dict):
        raise InvalidRequest('must be an object such as {"languages": ["fr"], ...}', param=param)
    return content


def read_adapters(pairs: list[str] | None) -> dict[str, Path]:
    """Return the folders of adapters by name, from the values NAME=FOLDER of `--lora`.

    Raises:
        InvalidRequest: A value has another form, or names an adapter a second time (param "lora").
    """
    adapters: dict[str, Path] = {}
    for pair in pairs or ():
        name, _, folder = pair.partition("=")
        if not name or not folder:
            raise InvalidRequest(f"must be NAME=FOLDER; got {pair!r}", param="lora")
        if name in adapters:
            raise InvalidRequest(f"adapter {name!r} is given twice; choose another name", param="lora")
        adapters[name] = Path(folder)
    return adapters
