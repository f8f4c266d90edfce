"""Reads stored texts with their languages: results of a sweep, or any Parquet file or JSON lines."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ampsweep.domain.languages import short_code
from ampsweep.errors import InvalidRequest
from jobs.data.rows import read_rows

RESULTS = "results.parquet"
"""The samples of a sweep, in the folder that `ampsweep run` writes."""

SWEEP_GROUP = ("task", "data_language", "method", "selection", "op", "factor")
"""The columns besides the language that results of a sweep are grouped by, as far as they have them."""


@dataclass(frozen=True, kw_only=True)
class StoredText:
    """A text, the code of the language it is meant to be in, and the values of the columns to group by."""

    text: str
    language: str
    group: tuple[Any, ...]


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Which columns hold what.

    Attributes:
        text: The column with the texts.
        language: The column with the wanted languages, or the code of one language for all texts.
        by: The columns whose values make a group.
    """

    text: str
    language: str
    by: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class StoredTexts:
    """The texts of some files, and how many rows were left out because they have no text or no language."""

    texts: tuple[StoredText, ...]
    left_out: int


def columns_of(
    paths: Sequence[Path], *, text: str | None = None, language: str | None = None, by: tuple[str, ...] | None = None
) -> Columns:
    """Return the columns to read, with the defaults for results of a sweep if that is what the first file is.

    Args:
        paths: The files or folders.
        text: The column with the texts; default `completion`.
        language: The column with the languages, or a code; default `target_language` in results of a sweep, else
            `language`.
        by: The columns to group by; default the language's, and in results of a sweep those of the intervention.
    """
    path = _file(paths[0])
    names = set(_parquet_columns(path)) if path.suffix == ".parquet" and path.is_file() else set()
    of_sweep = {"cell_id", "completion"} <= names
    language = language or ("target_language" if of_sweep else "language")
    if by is None:
        by = (*(name for name in SWEEP_GROUP if of_sweep and name in names), language)
    return Columns(text=text or "completion", language=language, by=by)


def read_stored_texts(paths: Sequence[Path], columns: Columns) -> StoredTexts:
    """Return the texts of Parquet files (`.parquet`), JSON lines (any other file) or folders with a sweep's results.

    A language column may hold several codes joined by "+", as results of a sweep do where several are steered to;
    such a row is left out, because no single language is wanted.

    Raises:
        InvalidRequest: A file cannot be read, lacks a column, or has a value of a wrong type; names the line.
    """
    texts: list[StoredText] = []
    left_out = 0
    for path in paths:
        for where, row in _rows(_file(path), columns):
            text, language = (_text_of(row, name, where) for name in (columns.text, columns.language))
            if text is None or not language or "+" in language:
                left_out += 1
                continue
            group = tuple(row.get(name) for name in columns.by)
            texts.append(StoredText(text=text, language=short_code(language), group=group))
    return StoredTexts(texts=tuple(texts), left_out=left_out)


def _file(path: Path) -> Path:
    return path / RESULTS if path.is_dir() else path


def _rows(path: Path, columns: Columns) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield each row with its place in the file; a language that is no column is added to every row."""
    if not path.is_file():
        raise InvalidRequest(f"there is no file {path}", param="files")
    wanted = dict.fromkeys((columns.text, columns.language, *columns.by))
    if path.suffix == ".parquet":
        names = _parquet_columns(path)
        constant = _constant_language(columns, names, path)
        read = [name for name in wanted if name not in constant]
        _require_columns(read, names, path)
        table = pq.read_table(path, columns=read)
        for number, row in enumerate(table.to_pylist(), 1):
            yield f"{path.name}, row {number}", {**row, **constant}
        return
    rows = read_rows(path)
    names = list(rows[0].values) if rows else []
    constant = _constant_language(columns, names, path) if rows else {}
    read = [name for name in wanted if name not in constant]
    for row in rows:
        _require_columns(read, list(row.values), path)
        yield row.where, {**row.values, **constant}


def _parquet_columns(path: Path) -> list[str]:
    try:
        names: list[str] = pq.read_schema(path).names
    except (OSError, pa.ArrowException) as error:
        raise InvalidRequest(f"{path.name} cannot be read as Parquet: {error}", param="files") from error
    return names


def _constant_language(columns: Columns, names: Sequence[str], path: Path) -> dict[str, str]:
    """Return the language of all rows, if `columns.language` is a code and not a column."""
    if columns.language in names:
        return {}
    if re.fullmatch(r"[a-z]{2,3}(_[A-Z][a-z]{3})?", columns.language):
        return {columns.language: columns.language}
    raise _no_column(columns.language, names, path, "language")


def _require_columns(wanted: Sequence[str], names: Sequence[str], path: Path) -> None:
    if missing := [name for name in wanted if name not in names]:
        raise _no_column(missing[0], names, path, "columns")


def _no_column(name: str, names: Sequence[str], path: Path, param: str) -> InvalidRequest:
    return InvalidRequest(f"{path.name} has no column {name!r}; it has: {', '.join(names)}", param=param)


def _text_of(row: Mapping[str, Any], name: str, where: str) -> str | None:
    value = row[name]
    if value is not None and not isinstance(value, str):
        raise InvalidRequest(f"{where}: {name} must be a text; got {value!r}", param=name)
    return value
