"""Text files, compressed or not."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

from ampsweep.errors import InvalidRequest


def read_lines(path: Path) -> Iterator[str]:
    """Yield a `.gz` or plain file's lines, stripped, without blank ones; InvalidRequest for what is no UTF-8 text."""
    return (line for line in read_all_lines(path) if line)


def read_all_lines(path: Path) -> Iterator[str]:
    """Yield a `.gz` or plain file's lines, stripped, blank ones as "", so that line n of the file is the n-th.

    A byte order mark at the head of the file is no part of its text. Raises InvalidRequest for what is no UTF-8 text.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            for number, line in enumerate(file):
                yield line.decode("utf-8-sig" if number == 0 else "utf-8").strip()
    except (UnicodeDecodeError, EOFError, OSError) as error:
        raise InvalidRequest(f"{path.name} cannot be read as UTF-8 text: {error}") from error
