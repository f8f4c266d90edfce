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
    rest, at_start = b"", True
    while block := source.read(BLOCK):
        if at_start:
            block, at_start = block.removeprefix(codecs.BOM_UTF8), False
        *lines, rest = (rest + block).split(b"\n")
        yield from filter(bytes.strip, lines)
    if rest.strip():
        yield rest
