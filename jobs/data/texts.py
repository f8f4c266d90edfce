"""Texts by language: plain text, a text a line, or rows of JSON lines or Parquet; in folders of splits, or in one.

`<split>/<language>.txt` and its like, or `<language>.txt` for data that has no splits. Texts that are translations of
each other stand in the same order in every language.
"""

from __future__ import annotations

from pathlib import Path

from ampsweep.errors import InvalidRequest
from ampsweep.folders.text import read_lines
from jobs.data.language_files import TEXT_SUFFIXES, language_files, read_rows

COLUMNS = ("text", "sentence", "prompt")
"""What a row's text may be called; the first that the file has is taken."""


def text_files(folder: Path, split: str, *, default: str) -> dict[str, Path]:
    """Return the files of a split by language; InvalidRequest lists the splits there are.

    Data without any folder in it has no splits: only the `default` one can be asked for, and is all of it.
    """
    if (folder / split).is_dir():
        return language_files(folder / split, suffixes=TEXT_SUFFIXES)
    splits = sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    if not splits and split == default:
        return language_files(folder, suffixes=TEXT_SUFFIXES)
    raise InvalidRequest(f"{folder.name} has no split {split!r}; splits there: {', '.join(splits) or 'none'}")


def read_texts(path: Path) -> list[str]:
    """Return the texts of a file, stripped, without empty ones; InvalidRequest names what is wrong with which row."""
    if path.name.endswith((".txt", ".txt.gz")):
        return list(read_lines(path))
    rows = read_rows(path, required=())
    column = next((name for name in COLUMNS if rows and name in rows[0]), None)
    for number, row in enumerate(rows, 1):
        if column is None or not isinstance(row.get(column), str):
            raise InvalidRequest(f"{path.name}, row {number}: needs a text as one of {', '.join(COLUMNS)}")
    return [text for row in rows if (text := row[str(column)].strip())]


def read_aligned(source: Path, target: Path) -> list[tuple[str, str]]:
    """Return the pairs of texts of two files; InvalidRequest where one has more than the other."""
    sources, targets = read_texts(source), read_texts(target)
    if len(sources) != len(targets):
        raise InvalidRequest(
            f"{source.name} and {target.name} are not aligned: they have {len(sources)} and {len(targets)} lines"
        )
    return list(zip(sources, targets, strict=True))
