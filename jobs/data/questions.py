"""Questions by language: a file of texts for each language, or one table with a column of languages."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from ampsweep.domain.languages.codes import short_code
from ampsweep.errors import InvalidRequest
from ampsweep.hashing import cached_hash
from jobs.data.language_files import SUFFIXES, TEXT_SUFFIXES, ByLanguage, language_files
from jobs.data.rows import Reading, Row, read_rows
from jobs.data.texts import Text, read_texts

TABLE = "questions"
"""Name, without suffix, of a table that has the questions of all languages."""
LANGUAGE_COLUMNS = ("language_code", "language", "lang")
QUESTION_COLUMNS = ("question", "text", "sentence", "prompt")
"""What the columns of the table may be called; the first that it has is taken."""


def question_files(folder: Path) -> dict[str, Path]:
    """Return the file that has the questions of each language.

    It is the same for all languages if the folder has a table, else `<language>.txt`, `.jsonl` or `.parquet`.

    Raises:
        InvalidRequest: There is neither a table nor a file for a language, or the table lacks a column.
    """
    table = _table(folder)
    if table is None:
        return language_files(folder, suffixes=TEXT_SUFFIXES)
    return ByLanguage(table.name, dict.fromkeys(_by_language(table, cached_hash(table)), table))


def read_questions(folder: Path, language: str) -> Reading[Text]:
    """Return the questions of a language, numbered by the line of its file, or by position among its rows of a table.

    Raises:
        InvalidRequest: Names what is wrong with which line.
    """
    table = _table(folder)
    if table is None:
        return read_texts(language_files(folder, suffixes=TEXT_SUFFIXES)[language])
    return Reading(items=_by_language(table, cached_hash(table))[language], repairs={})


def _table(folder: Path) -> Path | None:
    paths = (folder / f"{TABLE}{suffix}" for suffix in SUFFIXES)
    return next((path for path in paths if path.is_file()), None)


@lru_cache(maxsize=8)
def _by_language(path: Path, _hash: str) -> ByLanguage[tuple[Text, ...]]:
    rows = read_rows(path)
    language_column, question_column = (_column(rows[0], names) for names in (LANGUAGE_COLUMNS, QUESTION_COLUMNS))
    questions: dict[str, list[Text]] = {}
    for row in rows:
        of_language = questions.setdefault(short_code(row.full_text(language_column)), [])
        of_language.append(Text(index=len(of_language), text=row.full_text(question_column)))
    return ByLanguage(path.name, {language: tuple(texts) for language, texts in questions.items()})


def _column(row: Row, names: tuple[str, ...]) -> str:
    if (name := next((name for name in names if name in row.values), None)) is None:
        raise InvalidRequest(f"{row.where}: needs one of the columns {', '.join(names)}; has {', '.join(row.values)}")
    return name
