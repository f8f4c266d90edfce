"""Interface of the storage of published files.

There are two implementations, a local folder and an object store, and both pass the same contract tests. A file name
has one or more parts, separated by slashes, below the root of the storage. A file appears atomically and survives a
crash.
"""

from __future__ import annotations

import re
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from ampsweep.errors import NotFound

_NAME = re.compile(r"[0-9A-Za-z_-][0-9A-Za-z_.-]*(/[0-9A-Za-z_-][0-9A-Za-z_.-]*)*")


@dataclass(frozen=True, kw_only=True)
class FileInfo:
    """A file as it lies there: its bytes, when it was published (seconds since 1970), and a mark of its content.

    `etag` has no quotes; another content under the same name has another one.
    """

    size: int
    modified: float
    etag: str


class Storage(Protocol):
    """Files by name. What cannot be reached now raises Unavailable; what a local disk refuses, OSError."""

    @property
    def root(self) -> str:
        """Where it is, as `open_storage` takes it: for messages, and to open the same storage in another process."""
        ...

    def writing(self, name: str) -> AbstractContextManager[Path]:
        """Yield a local temporary path; on a clean exit its content is published as `name`, else nothing is."""
        ...

    def open(self, name: str) -> pa.NativeFile:
        """Open a file for reading anywhere in it (`read_at`, `size`); the caller closes it. NotFound if it is lost."""
        ...

    def read(self, name: str) -> bytes:
        """Return a file's content; NotFound if there is none."""
        ...

    def stat(self, name: str) -> FileInfo:
        """Look at a file; NotFound if there is none."""
        ...

    def names(self, folder: str = "") -> list[str]:
        """Return the sorted names of all files below a folder, or below the root; empty where there is none."""
        ...

    def delete(self, name: str) -> None:
        """Remove a file; nothing happens where there is none."""
        ...

    def drop_unfinished(self, *, older_than: float) -> int:
        """Remove what writers that died left unfinished, if nothing was written to it for so many seconds.

        Returns how many there were.
        """
        ...

    def check(self) -> None:
        """Publish a small file, read it and remove it; InvalidRequest with the remedy where that fails."""
        ...


@dataclass(frozen=True, kw_only=True)
class StoredFile:
    """One published file, wherever it lies."""

    storage: Storage
    name: str

    def stat(self) -> FileInfo:
        """Look at it; NotFound if it is lost."""
        return self.storage.stat(self.name)

    def open(self) -> pa.NativeFile:
        """Open it for reading anywhere in it; the caller closes it. NotFound if it is lost."""
        return self.storage.open(self.name)

    def read(self) -> bytes:
        """Return its content; NotFound if it is lost."""
        return self.storage.read(self.name)


def is_name(name: str) -> bool:
    """Whether a name stays below its root."""
    return _NAME.fullmatch(name) is not None


def checked_name(name: str) -> str:
    """Return a name that stays below its root; NotFound for any other, which can name nothing."""
    if not is_name(name):
        raise NotFound(f"{name!r} is no name of a stored file")
    return name
