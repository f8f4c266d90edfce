"""Reads rows of JSON lines or Parquet, and their fields by type. Errors name the file, the line and the field."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from reprlib import repr as shortened
from typing import Any, Generic, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from ampsweep.documents import parse_json
from ampsweep.domain.languages.codes import one_language_twice, short_code
from ampsweep.errors import InvalidRequest
from ampsweep.folders.text import read_all_lines

T = TypeVar("T")

_OBJECTS = 'write one object a line, such as {"key": "value"}'
READERS = {".csv": "read_csv", ".tsv": "read_table", ".xlsx": "read_excel", ".json": "read_json"}
"""The functions of pandas that read tables, by suffix."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of a file. Each getter returns a field as one type, and raises InvalidRequest if it has another.

    Attributes:
        where: The file's name with the number, for messages.
        number: Number of the line (in Parquet, of the row), counted from 1.
        values: The fields.
    """

    where: str
    number: int
    values: Mapping[str, Any]

    def text(self, field: str) -> str:
        """Return a text unchanged."""
        return self.a_text(self.values.get(field), field)

    def full_text(self, field: str) -> str:
        """Return a text without the white space around it; raise InvalidRequest if it is empty."""
        if not (text := self.text(field).strip()):
            raise self.wrong(field, "must not be empty")
        return text

    def texts(self, field: str) -> dict[str, str]:
        """Return texts by language, named by `short_code`.

        Languages whose text is null are left out, because a Parquet file has every language in every row.
        """
        by_language = self.values.get(field)
        if not isinstance(by_language, Mapping):
            raise self.wrong(field, "must be an object of texts by language")
        texts = {str(key): self.a_text(text, f"{field}.{key}") for key, text in by_language.items() if text is not None}
        if twice := one_language_twice(texts):
            raise self.wrong(field, f"has a language twice: {twice}", list(texts))
        return {short_code(code): text for code, text in texts.items()}

    def a_text(self, value: object, field: str) -> str:
        """Return `value`, which must be a text; `field` is its name in the error."""
        if not isinstance(value, str):
            raise self.wrong(field, "must be a text", value)
        return value

    def number_below(self, field: str, limit: int) -> int:
        """Return a whole number of at least 0 and below `limit`. 1.0 is a whole number; true is not."""
        value = whole(self.values.get(field))
        if isinstance(value, bool) or not isinstance(value, int) or value not in range(limit):
            wanted = "must be " + ("0 or 1" if limit == 2 else f"a whole number from 0 to {limit - 1}")
            quoted = isinstance(value, str) and value.strip().isdecimal()
            message = self.wrong(field, wanted).message
            raise InvalidRequest(f"{message}; drop the quotes" if quoted else message)
        return value

    def id(self, field: str, *, default: int | None = None) -> str:
        """Return a text or a whole number as text, or `default` if the field is missing or null."""
        value = whole(self.values.get(field))
        if value is None and default is not None:
            return str(default)
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise self.wrong(field, "must be a text or a whole number")
        return str(value)

    def wrong(self, field: str, wanted: str, value: object = None) -> InvalidRequest:
        """Return the error for a field whose value is not as `wanted`."""
        if value is None and field not in self.values and "." not in field:
            return InvalidRequest(
                f"{self.where}: {field} {wanted}; it is missing, there are: {_names([field], self.values)}"
            )
        value = self.values.get(field) if value is None else value
        return InvalidRequest(f"{self.where}: {field} {wanted}; got {_shown(value)}")


@dataclass(frozen=True, kw_only=True)
class Reading(Generic[T]):
    """The items of a file, and how often its rows were repaired to make them, by kind (see `REPAIRS`)."""

    items: tuple[T, ...]
    repairs: Mapping[str, int]


REPAIRS = {
    "repeated_ids": "{count} of the ids repeat an earlier one; #2, #3 and so on are appended to make them unique",
    "decimal_labels": "{count} of the labels are decimals such as 1.0; they are read as whole numbers",
    "blank_lines": "{count} of the lines between texts are blank and left out; doc_id counts them",
    "questions": "{count} of the questions differ from those of most languages, which are asked instead",
    "blank_words": "{count} of the subjects and objects are blank; the languages lack these facts",
    "equal_objects": "{count} of the pairs of objects differ only in Unicode form or white space; they count as equal",
}
"""How readers repair data, by kind, with the warning that a plan gives. Repairs are part of a cell's id."""


def repairs(**counts: int) -> dict[str, int]:
    """Return the counts of the kinds of `REPAIRS` that happened at least once."""
    return {kind: count for kind, count in counts.items() if count}


def read_rows(path: Path, *, required: Iterable[str] = (), allow_empty: bool = False) -> list[Row]:
    """Return the rows of a file in order.

    Args:
        path: A Parquet file (`.parquet`) or JSON lines (any other name).
        required: The fields that every row must have.
        allow_empty: Whether the file may have no rows.

    Raises:
        InvalidRequest: The file cannot be read, has no rows, or a row lacks a field; the message names file and line.
    """
    if path.suffix == ".parquet":
        rows = [
            Row(where=f"{path.name}, row {number}", number=number, values=values)
            for number, values in enumerate(_parquet_rows(path, required), 1)
        ]
    else:
        rows = [_row(line, path, number, required) for number, line in enumerate(read_all_lines(path), 1) if line]
    if not rows and not allow_empty:
        raise InvalidRequest(f"{path.name} has no rows; add some, or leave its language out")
    return rows


def whole(value: Any) -> Any:
    """Return a float without a fraction as an int, because pandas writes whole numbers so; other values unchanged."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def distinct(ids: Sequence[str]) -> tuple[list[str], int]:
    """Return the ids in their order, made unique by position (`x`, `x#2`, `x#3`), and how many repeat."""
    taken, seen = set(ids), Counter[str]()
    unique_ids: list[str] = []
    for name in ids:
        seen[name] += 1
        unique = name
        while seen[name] > 1 and (unique := f"{name}#{seen[name]}") in taken:
            seen[name] += 1
        taken.add(unique)
        unique_ids.append(unique)
    return unique_ids, len(ids) - len(set(ids))


def _row(line: str, path: Path, number: int, required: Iterable[str]) -> Row:
    where = f"{path.name}, line {number}"
    try:
        values = parse_json(line, source=where, param="data")
    except ValueError as error:
        raise InvalidRequest(f"{where} is not JSON: {error}; {_remedy(line)}") from error
    if not isinstance(values, dict):
        kind = "a list" if isinstance(values, list) else _shown(values)
        raise InvalidRequest(f"{where} must be an object of keys and values; got {kind}; {_OBJECTS}")
    if missing := [key for key in required if key not in values]:
        raise InvalidRequest(f"{where} has no {', '.join(missing)}; it has: {_names(missing, values)}")
    return Row(where=where, number=number, values=values)


def conversion(suffix: str) -> str:
    """Return how a table with a suffix of `READERS` is converted to JSON lines."""
    return f"pandas.{READERS[suffix]}(FILE).to_json(NEW, orient='records', lines=True, force_ascii=False)"


def _remedy(line: str) -> str:
    """Return how to correct a line that is not JSON."""
    if line[:1] not in ("{", "[") and any(mark in line for mark in ",;\t"):
        return f"if it is a table, convert it: {conversion('.csv')}"
    if line.startswith("{'"):
        return "write double quotes; json.dumps(row, ensure_ascii=False) writes them"
    return _OBJECTS


def _names(missing: Sequence[str], names: Iterable[object]) -> str:
    """Return the names that there are, and which of them were probably meant by those that are missing."""
    present = sorted(map(str, names))
    close = [match for name in missing for match in get_close_matches(name, present, n=1)]
    hint = f". Rename {' and '.join(map(repr, dict.fromkeys(close)))}?" if close else ""
    return f"{', '.join(present) or 'nothing'}{hint}"


def _parquet_rows(path: Path, required: Iterable[str]) -> list[dict[str, Any]]:
    try:
        table = pq.ParquetFile(path).read()
        if missing := [key for key in required if key not in table.column_names]:
            columns = _names(missing, table.column_names)
            raise InvalidRequest(f"{path.name} has no column {', '.join(missing)}; it has: {columns}")
        rows: list[dict[str, Any]] = table.to_pylist()
    except (OSError, UnicodeDecodeError, pa.ArrowException) as error:
        raise InvalidRequest(f"{path.name} cannot be read as Parquet: {error}") from error
    return rows


def _shown(value: object) -> str:
    """Return a value, shortened, for an error message; lone surrogates are escaped."""
    return "null" if value is None else shortened(value).encode("utf-8", "backslashreplace").decode()
