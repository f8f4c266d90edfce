"""Reads neurons from a table that has a row for each neuron: comma-separated text, or rows of JSON.

Knows columns and rows; `from_json` knows which neurons a model has.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence

from ampsweep.errors import InvalidRequest, shortened

LANGUAGE, LAYER, NEURON = ("language", "lang"), ("layer",), ("neuron", "neuron_index", "index")
"""The names of the columns; the first one that a table has is read, in upper or lower case. Others are ignored."""
FORM = "a table with the columns language, layer and neuron"
_SEPARATORS = ",;\t"

Neurons = dict[str, dict[int, list[int]]]


def is_rows(content: object) -> bool:
    """Return whether the content of a JSON file is a list of rows."""
    return isinstance(content, list) and bool(content) and all(isinstance(row, Mapping) for row in content)


def from_rows(rows: Iterable[Mapping[str, object]], *, source: str, param: str) -> Neurons:
    """Return `{language: {layer: [index, ...]}}` of rows.

    Args:
        rows: The rows, such as `{"language": "fr", "layer": 0, "neuron": 12}`. Whole numbers may be texts or floats.
        source: The file, for errors.
        param: The field that named the file.

    Raises:
        InvalidRequest: A row lacks a column, or a number is not whole. The message names the row, counted from 1.
    """
    try:
        return _nested(rows, source)
    except InvalidRequest as error:
        error.param = param
        raise


def _nested(rows: Iterable[Mapping[str, object]], source: str) -> Neurons:
    neurons: Neurons = {}
    for number, row in enumerate(rows, start=1):
        values = {str(name).strip().lower(): value for name, value in row.items()}
        where = f"{source}, row {number}"
        code = str(_value(values, LANGUAGE, where)).strip()
        layer, index = (_whole(_value(values, names, where), names[0], where) for names in (LAYER, NEURON))
        neurons.setdefault(code, {}).setdefault(layer, []).append(index)
    return neurons


def read_table(content: bytes, *, source: str, param: str) -> Neurons | None:
    """Return `{language: {layer: [index, ...]}}` of text with a head and a row on each line.

    Columns are separated by commas, semicolons or tabs. Returns None if the text has no such head.

    Raises:
        InvalidRequest: A row is wrong, see `from_rows`.
    """
    try:
        lines = content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        return None
    for separator in _SEPARATORS:
        table = csv.DictReader(lines, delimiter=separator)
        if _has_columns(table.fieldnames or ()):
            return from_rows(table, source=source, param=param)
    return None


def _has_columns(names: Sequence[str]) -> bool:
    lower = {name.strip().lower() for name in names}
    return all(not lower.isdisjoint(choices) for choices in (LANGUAGE, LAYER, NEURON))


def _value(row: Mapping[str, object], names: Sequence[str], where: str) -> object:
    for name in names:
        if name in row:
            if row[name] in (None, ""):
                break
            return row[name]
    raise InvalidRequest(f"{where} has no {names[0]}; write {FORM}")


def _whole(value: object, name: str, where: str) -> int:
    try:
        number = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else None
    except ValueError:
        number = None
    if number is None or not number.is_integer():
        raise InvalidRequest(f"{where}: {name} must be a whole number; got {shortened(str(value))!r}")
    return int(number)
