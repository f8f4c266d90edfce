"""Reads a file of neurons that is text: JSON, or a table. Imports no torch."""

from __future__ import annotations

from pathlib import Path

from ampsweep.documents import parse_json, read_bounded
from ampsweep.errors import InvalidRequest
from engine.neurons.formats.neuron_table import FORM, from_rows, is_rows, read_table

MAX_BYTES = 1024**3
"""Bytes of a file of neurons at most."""


def read_text(path: Path, *, param: str, otherwise: str) -> object:
    """Return the neurons of a file in the form of `from_json`, which checks them.

    Args:
        path: The file.
        param: The field that named it.
        otherwise: What the error says of a file that is neither.

    Raises:
        InvalidRequest: The file has more than 1 GiB, or neither form, a row of the table is wrong, or an object repeats
            a key.
    """
    content = read_bounded(path, limit=MAX_BYTES, param=param)
    try:
        parsed = parse_json(content, source=path.name, param=param)
    except ValueError as error:
        table = read_table(content, source=path.name, param=param)
        if table is not None:
            return table
        forms = f"neither JSON {{language: {{layer: [index, ...]}}}}, nor {FORM}"
        raise InvalidRequest(f"{path.name} is {forms}{otherwise}: {error}", param=param) from error
    return from_rows(parsed, source=path.name, param=param) if is_rows(parsed) else parsed
