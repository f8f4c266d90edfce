"""The content of uploaded files and of the output of batches, in the storage.

A batch that runs stores its results in parts of PART_ROWS rows, each published once. A server that takes the batch over
runs only the rows of the parts that are missing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from itertools import chain
from typing import IO, Any

from jobs.batches.lines import BLOCK, lines_of
from jobs.storage.protocol import Storage, StoredFile

BATCHES = "batches"
"""Name of the folder of these files, within the folder of results."""
PART_ROWS = 64
"""Number of rows of a part."""
_LINE_ENDS = {code: f"\\u{code:04x}" for code in (0x85, 0x2028, 0x2029)}
"""Escapes of the line ends that JSON texts may contain as they are."""


class BatchFiles:
    """The files of batches in a storage. Methods may block."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def save(self, file_id: str, content: IO[bytes]) -> int:
        """Publish the content of an uploaded file; return its size in bytes."""
        size = 0
        with self._storage.writing(_file(file_id)) as path, path.open("wb") as target:
            while block := content.read(BLOCK):
                size += target.write(block)
        return size

    def stored(self, file_id: str) -> StoredFile:
        """Return the file with an id, for its content."""
        return StoredFile(storage=self._storage, name=_file(file_id))

    def delete(self, file_id: str) -> None:
        """Delete the content of a file, if it exists."""
        self._storage.delete(_file(file_id))

    def ids(self) -> list[str]:
        """Return the ids of all files."""
        return [name.removeprefix("files/") for name in self._storage.names("files")]

    def age(self, file_id: str, now: float) -> float:
        """Return how many seconds ago a file was published."""
        return now - self._storage.stat(_file(file_id)).modified

    def lines(self, file_id: str) -> Iterator[bytes]:
        """Yield the lines of a file that are not blank; a byte order mark at its start is skipped.

        Raises:
            NotFound: There is no such file.
        """
        with closing(self.stored(file_id).open()) as source:
            yield from lines_of(source)

    def save_part(self, batch_id: str, number: int, rows: Iterable[Mapping[str, Any]]) -> None:
        """Publish the results of the rows of a part."""
        with self._storage.writing(f"{batch_id}/{number:06d}") as path, path.open("wb") as target:
            target.writelines(map(_encoded, rows))

    def parts(self, batch_id: str) -> list[int]:
        """Return the numbers of the parts of a batch that have been published."""
        return [int(name.rpartition("/")[2]) for name in self._storage.names(batch_id)]

    def part(self, batch_id: str, number: int) -> list[dict[str, Any]]:
        """Return the results of a part."""
        return [json.loads(line) for line in self._storage.read(f"{batch_id}/{number:06d}").splitlines()]

    def delete_parts(self, batch_id: str) -> None:
        """Delete the parts of a batch, whose output has been assembled."""
        self._storage.delete(*(f"{batch_id}/{number:06d}" for number in self.parts(batch_id)))

    def batch_ids(self) -> set[str]:
        """Return the ids of the batches that have parts."""
        return {name.partition("/")[0] for name in self._storage.names()} - {"files"}

    def write(self, file_id: str, rows: Iterable[Mapping[str, Any]]) -> int:
        """Publish rows as a file of JSON lines and return its size in bytes; without rows there is none, and 0."""
        iterator = iter(rows)
        first = next(iterator, None)
        if first is None:
            return 0
        size = 0
        with self._storage.writing(_file(file_id)) as path, path.open("wb") as target:
            for row in chain([first], iterator):
                size += target.write(_encoded(row))
        return size


def _encoded(row: Mapping[str, Any]) -> bytes:
    """Return a row as a line of JSON.

    Some characters are escaped: lone surrogates, which errors may quote from a request, and those that clients may
    take for the end of a line, as Python's `str.splitlines` does.
    """
    text = json.dumps(row, ensure_ascii=False).translate(_LINE_ENDS)
    return f"{text}\n".encode(errors="backslashreplace")


def _file(file_id: str) -> str:
    return f"files/{file_id}"
