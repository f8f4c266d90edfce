"""Reads texts by language: plain text with one text a line, or rows of JSON lines or Parquet.

Files are named `<split>/<language>.txt`, or `<language>.txt` for data without splits. Translations of a text are on
the same line of every file. Blank lines are counted, because a text is identified by the number of its line.
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
    """A text without the white space around it, and the index of its line (in Parquet, of its row), counted from 0."""

    index: int
    text: str


COLUMNS = ("text", "sentence", "prompt", "question")
"""Names of the column with the text; the first one that the file has is read."""


def text_files(folder: Path, split: str, *, default: str) -> dict[str, Path]:
    """Return the files of a split by language.

    A data set without subfolders has no splits: all of it is the split `default`.

    Raises:
        InvalidRequest: There is no such split; the message lists the splits.
    """
    splits = {path.name: path for path in subfolders(folder)}
    if split in splits:
        return language_files(splits[split], suffixes=TEXT_SUFFIXES)
    if not splits and split == default:
        return language_files(folder, suffixes=TEXT_SUFFIXES)
    there = f"splits there: {', '.join(splits)}" if splits else "it has no splits: leave split out"
    raise InvalidRequest(f"{folder.name} has no split {split!r}; {there}")


def subfolders(folder: Path) -> list[Path]:
    """Return the folders in a folder in the order of their names; none if it does not exist.

    Hidden ones (`.cache`, `.ipynb_checkpoints`) are left out. A split that a client names is looked up among these
    folders and is never used as a path, so that it cannot name a folder elsewhere.
    """
    folders = (path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else ()
    return sorted(path for path in folders if not path.name.startswith("."))


def read_texts(path: Path) -> Reading[Text]:
    """Return the texts of a file without the blank ones.

    Raises:
        InvalidRequest: There are no texts, or a row is invalid; the message names the line and the problem.
    """
    return _read(path, cached_hash(path))


def read_aligned(source: Path, target: Path) -> list[tuple[Text, Text]]:
    """Return the pairs of texts on the same line of two files, without lines that are blank in both.

    Raises:
        InvalidRequest: One file has a text where the other has none; the message has the line's number.
    """
    sources, targets = ({text.index: text for text in read_texts(path).items} for path in (source, target))
    if unpaired := sources.keys() ^ targets.keys():
        index = min(unpaired)
        longer, shorter = (source, target) if index in sources else (target, source)
        raise InvalidRequest(
            f"{source.name} and {target.name} are not aligned: line {index + 1} of {shorter.name} is blank or missing, "
            f"that of {longer.name} is not; a text and its translation must be on the same line"
        )
    return [(text, targets[index]) for index, text in sources.items()]


@lru_cache(maxsize=32)
def _read(path: Path, _hash: str) -> Reading[Text]:
    if path.name.endswith((".txt", ".txt.gz")):
        lines = dict(enumerate(read_all_lines(path)))
    else:
        rows = read_rows(path)
        column = next((name for name in COLUMNS if name in rows[0].values), None)
        lines = {row.number - 1: _text(row, column) for row in rows}
    items = tuple(Text(index=index, text=text) for index, text in lines.items() if text)
    if not items:
        raise InvalidRequest(f"{path.name} has no texts; add some, or leave its language out")
    return Reading(items=items, repairs=repairs(blank_lines=items[-1].index + 1 - len(items)))


def _text(row: Row, column: str | None) -> str:
    if column is None:
        raise InvalidRequest(f"{row.where}: has no text; put it under one of {', '.join(COLUMNS)}")
    return row.text(column).strip()
