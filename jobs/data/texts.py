"""Texts by language: plain text, a text a line, or rows of JSON lines or Parquet; in folders of splits, or in one.

`<split>/<language>.txt` and its like, or `<language>.txt` for data that has no splits. Texts that are translations of
each other stand on the same line in every language. Blank lines count: a text is known by the number of its line.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ampsweep.errors import InvalidRequest
from ampsweep.folders.text import read_all_lines
from ampsweep.hashing import cached_hash
from jobs.data.language_files import TEXT_SUFFIXES, language_files
from jobs.data.rows import Reading, Row, read_rows, repairs


@dataclass(frozen=True, kw_only=True)
class Text:
    """A text without the white space around it, and the number of its line (of Parquet: row), from 0."""

    at: int
    text: str


COLUMNS = ("text", "sentence", "prompt")
"""What a row's text may be called; the first that the file has is taken."""


def text_files(folder: Path, split: str, *, default: str) -> dict[str, Path]:
    """Return the files of a split by language; InvalidRequest lists the splits there are.

    Data without any folder in it has no splits: only the `default` one can be asked for, and is all of it.
    """
    if (folder / split).is_dir():
        return language_files(folder / split, suffixes=TEXT_SUFFIXES)
    splits = [path.name for path in subfolders(folder)]
    if not splits and split == default:
        return language_files(folder, suffixes=TEXT_SUFFIXES)
    raise InvalidRequest(f"{folder.name} has no split {split!r}; splits there: {', '.join(splits) or 'none'}")


def subfolders(folder: Path) -> list[Path]:
    """Return the folders in a folder, by name; none if it does not exist."""
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def read_texts(path: Path) -> Reading[Text]:
    """Return the texts of a file, without blank ones; InvalidRequest names what is wrong with which line."""
    return _read(path, cached_hash(path))


def read_aligned(source: Path, target: Path) -> list[tuple[Text, Text]]:
    """Return the pairs of texts that stand on the same line of two files; lines that are blank in both are none.

    Raises InvalidRequest, with the number of the line, where one file has a text and the other has none.
    """
    sources, targets = ({text.at: text for text in read_texts(path).items} for path in (source, target))
    if alone := sources.keys() ^ targets.keys():
        at = min(alone)
        has, lacks = (source, target) if at in sources else (target, source)
        raise InvalidRequest(
            f"{source.name} and {target.name} are not aligned: line {at + 1} of {lacks.name} is blank or missing, that "
            f"of {has.name} is not; a text and its translation must stand on the same line"
        )
    return [(text, targets[at]) for at, text in sources.items()]


@lru_cache(maxsize=32)
def _read(path: Path, _hash: str) -> Reading[Text]:
    if path.name.endswith((".txt", ".txt.gz")):
        lines = dict(enumerate(read_all_lines(path)))
    else:
        rows = read_rows(path)
        column = next((name for name in COLUMNS if rows and name in rows[0].values), None)
        lines = {row.number - 1: _text(row, column) for row in rows}
    items = tuple(Text(at=at, text=text) for at, text in lines.items() if text)
    return Reading(items=items, repairs=repairs(blank_lines=items[-1].at + 1 - len(items) if items else 0))


def _text(row: Row, column: str | None) -> str:
    if column is None:
        raise InvalidRequest(f"{row.where}: needs a text as one of {', '.join(COLUMNS)}")
    return row.text(column).strip()
