"""The lines of a file of requests."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from typing import Protocol

BLOCK = 1024 * 1024
"""Bytes that are read at once."""


class Reader(Protocol):
    """A file that is open for reading bytes."""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` further bytes; none at the end."""
        ...


def lines_of(source: Reader) -> Iterator[bytes]:
    """Yield the lines that are not blank, without their ends; skip a byte order mark at the start of the file."""
    pieces: list[bytes] = []  # of the line that is being read; joined once, because a line may have many blocks
    at_start = True
    while block := source.read(BLOCK):
        if at_start:
            block, at_start = block.removeprefix(codecs.BOM_UTF8), False
        end_of_line, *others = block.split(b"\n")
        pieces.append(end_of_line)
        for piece in others:
            if (line := b"".join(pieces)).strip():
                yield line
            pieces = [piece]
    if (line := b"".join(pieces)).strip():
        yield line
