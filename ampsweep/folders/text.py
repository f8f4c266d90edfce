"""Reads lines of plain and gzip-compressed text files."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path

from ampsweep.errors import InvalidRequest


def read_lines(path: Path) -> Iterator[str]:
    """Yield the stripped lines of a plain or `.gz` file, without blank ones; see `read_all_lines`."""
    return (line for line in read_all_lines(path) if line)


def read_all_lines(path: Path) -> Iterator[str]:
    """Yield the stripped lines of a plain or `.gz` file, blank ones as "", so that positions are line numbers.

    A byte order mark at the start of the file is skipped.

    Raises:
        InvalidRequest: The file cannot be read, or is not UTF-8 text; the message names the line.
    """
    number = 0
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            for number, line in enumerate(file, 1):
                yield line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{path.name}, line {number}: cannot be read as UTF-8 text: {error}") from error
    except (EOFError, OSError, zlib.error) as error:
        raise InvalidRequest(f"{path.name} cannot be read: {error}") from error
