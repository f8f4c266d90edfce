"""Reads lines of plain and gzip-compressed text files."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path

from ampsweep.documents import foreign_encoding
from ampsweep.errors import InvalidRequest

_FOREIGN = {"\0": "a NUL character, as text in UTF-16 has", "\r": "a carriage return between two texts"}
MAX_LINE = 64 * 1024 * 1024
"""Bytes of a line. A few kilobytes of gzip can hold a line that does not fit into memory."""
_REMEDY = "save the file in UTF-8, with line feeds at the ends of lines"


def read_lines(path: Path) -> Iterator[str]:
    """Yield the stripped lines of a plain or `.gz` file, without blank ones; see `read_all_lines`."""
    return (line for line in read_all_lines(path) if line)


def read_all_lines(path: Path) -> Iterator[str]:
    """Yield the stripped lines of a plain or `.gz` file, blank ones as "", so that positions are line numbers.

    A byte order mark at the start of the file is skipped.

    Raises:
        InvalidRequest: The file cannot be read, is not UTF-8 text, has another encoding or other line ends, or has a
            line of more than 64 MiB; the message names the line.
    """
    number = 0
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            for number, line in enumerate(iter(lambda: file.readline(MAX_LINE), b""), 1):
                if len(line) == MAX_LINE:
                    raise InvalidRequest(f"{path.name}, line {number}: has 64 MiB or more; write one text a line")
                text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
                reject_foreign(text, place=f"{path.name}, line {number}")
                yield text
    except UnicodeDecodeError as error:
        foreign = foreign_encoding(error.object) if number == 1 else None
        problem = f"{path.name}, line {number}: cannot be read as UTF-8 text: {foreign or error}"
        raise InvalidRequest(f"{problem}; {_REMEDY}") from error
    except (EOFError, OSError, zlib.error) as error:
        raise InvalidRequest(f"{path.name} cannot be read: {error}") from error


def reject_foreign(text: str, *, place: str, param: str | None = None) -> None:
    """Raise InvalidRequest if a line, called `place`, has a character of another encoding or of other line ends."""
    if (character := next((name for mark, name in _FOREIGN.items() if mark in text), None)) is not None:
        raise InvalidRequest(f"{place}: has {character}; {_REMEDY}", param=param)
