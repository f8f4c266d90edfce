"""Reads stored texts: results of a sweep, or any Parquet file or JSON lines."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from reprlib import repr as shortened
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ampsweep.domain.languages.codes import is_usual_code, short_code, wrong_code
from ampsweep.errors import InvalidRequest
from ampsweep.missing_path import no_file
from jobs.data.rows import read_rows
from jobs.evaluation.texts import RESULTS, Columns, StoredText, read_columns

_IDS = ("sweep_id", "cell_id", "doc_id", "answer")
"""Columns of a sweep's results that identify its rows."""
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, kw_only=True)
class StoredTexts:
    """The texts of some files, and how many rows were left out because they lack a value that is needed."""

    texts: tuple[StoredText, ...]
    left_out: int


def results_file(path: Path) -> Path:
    """Return the file with the results in a folder that `ampsweep run` wrote; any other path unchanged."""
    return path / RESULTS if path.is_dir() else path


def column_names(path: Path) -> list[str]:
    """Return the names of a file's columns, of JSON lines the keys of the first row.

    Raises:
        InvalidRequest: The file does not exist or cannot be read.
    """
    if not path.is_file():
        raise InvalidRequest(no_file(path), param="files")
    if path.suffix != ".parquet":
        rows = read_rows(path, allow_empty=True)
        return list(rows[0].values) if rows else []
    try:
        names: list[str] = pq.read_schema(path).names
    except (OSError, pa.ArrowException) as error:
        raise InvalidRequest(f"{path.name} cannot be read as Parquet: {error}", param="files") from error
    return names


def read_stored_texts(paths: Sequence[Path], columns: Columns) -> StoredTexts:
    """Return the texts of Parquet files (`.parquet`) or JSON lines (any other file).

    A language column may hold several codes joined by "+", as results of a sweep do where several are steered to;
    such a row is left out, because no single language is wanted.

    Raises:
        InvalidRequest: A file is given twice, cannot be read, lacks a column, or has a value of a wrong type; names the
            line.
    """
    shown = _file_names(paths)
    texts: list[StoredText] = []
    left_out = 0
    wanted = [name for name in (columns.text, columns.language, columns.input, columns.reference) if name is not None]
    for path in paths:
        for number, where, row in _rows(path, columns):
            values = {name: _text_of(row, name, where) for name in wanted}
            text, language = values[columns.text], values[columns.language]
            if text is None or not language or "+" in language or None in values.values():
                left_out += 1
                continue
            if wrong := wrong_code(language):
                raise InvalidRequest(f"{where}: {columns.language}: {wrong}", param="files")
            texts.append(
                StoredText(
                    text=text,
                    language=short_code(language),
                    group=tuple(_group_value(row, name, where) for name in columns.by),
                    input=None if columns.input is None else values[columns.input],
                    reference=None if columns.reference is None else values[columns.reference],
                    key={"file": shown[path], "row": number, **{name: row[name] for name in _IDS if name in row}},
                )
            )
    return StoredTexts(texts=tuple(texts), left_out=left_out)


def _file_names(paths: Sequence[Path]) -> dict[Path, str]:
    """Return what each file is called in `StoredText.key`: its name, or its path where another has the same name.

    Raises:
        InvalidRequest: A file is given twice, so that its texts would count twice.
    """
    (resolved, times), *_ = Counter(path.resolve() for path in paths).most_common(1)
    if times > 1:
        raise InvalidRequest(f"{resolved} is given {times} times; give each file once", param="files")
    counts = Counter(path.name for path in paths)
    return {path: path.name if counts[path.name] == 1 else str(path) for path in paths}


def _group_value(row: Mapping[str, Any], name: str, where: str) -> Any:
    """Return a value to group by; NaN, which differs from itself, as None."""
    value = row.get(name)
    if isinstance(value, list | dict):
        raise InvalidRequest(f"{where}: {name} must be one value to group by; got {shortened(value)}", param="by")
    return None if isinstance(value, float) and isnan(value) else value


def _rows(path: Path, columns: Columns) -> Iterator[tuple[int, str, Mapping[str, Any]]]:
    """Yield each row with its number and place; a language that is not the name of a column is added to every row."""
    names = column_names(path)
    wanted = [columns.text, columns.language, columns.input, columns.reference, *columns.by]
    if path.suffix == ".parquet":
        constant = _constant_language(columns, names, path)
        read = _existing(wanted, constant, names, path.name)
        ids = [name for name in _IDS if name in names and name not in read]
        for number, row in enumerate(_parquet_rows(path, [*read, *ids]), 1):
            yield number, f"{path.name}, row {number}", {**row, **constant}
        return
    rows = read_rows(path, allow_empty=True)
    constant = _constant_language(columns, names, path) if rows else {}
    for line in rows:
        read = _existing(wanted, constant, list(line.values), line.where)
        _require_unicode({name: line.values.get(name) for name in (*read, *_IDS)}, line.where)
        yield line.number, line.where, {**line.values, **constant}


def _parquet_rows(path: Path, columns: Sequence[str]) -> list[dict[str, Any]]:
    table = read_columns(path, columns)
    try:
        rows: list[dict[str, Any]] = table.to_pylist()
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{path.name} has a text that is not UTF-8: {error}", param="files") from error
    return rows


def _require_unicode(row: Mapping[str, Any], where: str) -> None:
    """Raise InvalidRequest if a text has a lone surrogate, which JSON can contain and UTF-8 cannot."""
    for name, value in row.items():
        if isinstance(value, str) and not value.isascii() and (found := _SURROGATE.search(value)):
            half = found.group().encode("utf-8", "backslashreplace").decode()
            message = f"{where}: {name} has half a character ({half}, a lone surrogate); remove it"
            raise InvalidRequest(message, param="files")


def _existing(wanted: Sequence[str | None], constant: Mapping[str, str], names: Sequence[str], where: str) -> list[str]:
    """Return the wanted columns, each once, without the constant ones; raise InvalidRequest if one does not exist."""
    read = list(dict.fromkeys(name for name in wanted if name is not None and name not in constant))
    if missing := [name for name in read if name not in names]:
        raise _no_column(missing[0], names, where, "columns")
    return read


def _constant_language(columns: Columns, names: Sequence[str], path: Path) -> dict[str, str]:
    """Return the language of all rows, if `columns.language` is a code and not a column."""
    if columns.language in names:
        return {}
    if is_usual_code(columns.language):
        return {columns.language: columns.language}
    error = _no_column(columns.language, names, path.name, "language")
    remedy = "give one of these, or the code of a language such as fr, por_Latn or pt-BR"
    raise InvalidRequest(f"{error.message}; {remedy}", param=error.param)


def _no_column(name: str, names: Sequence[str], where: str, param: str) -> InvalidRequest:
    return InvalidRequest(f"{where} has no column {name!r}; it has: {', '.join(names)}", param=param)


def _text_of(row: Mapping[str, Any], name: str, where: str) -> str | None:
    value = row[name]
    if value is not None and not isinstance(value, str):
        raise InvalidRequest(f"{where}: {name} must be a text; got {value!r}", param=name)
    return value
