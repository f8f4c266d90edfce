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

_PART = r"[0-9A-Za-z_-][0-9A-Za-z_.-]{0,254}"  # as long as the name of a file may be
_NAME = re.compile(rf"{_PART}(/{_PART})*")


@dataclass(frozen=True, kw_only=True)
class FileInfo:
    """Description of a published file.

    Attributes:
        size: Size in bytes.
        modified: When the file was published, in seconds since 1970.
        etag: Changes whenever the content changes; without quotes.
    """

    size: int
    modified: float
    etag: str


class Storage(Protocol):
    """Published files by name.

    Methods raise Unavailable while an object store cannot be reached or a disk is not mounted, OSError if the local
    disk refuses an operation, and NotFound for a name that is not valid (see `is_name`).
    """

    @property
    def root(self) -> str:
        """The address, with which `open_storage` opens the same storage in another process."""
        ...

    def writing(self, name: str) -> AbstractContextManager[Path]:
        """Yield a temporary local path. A clean exit publishes its content; an error publishes nothing."""
        ...

    def publish_new(self, name: str, content: bytes) -> bool:
        """Publish a file unless there is one of this name; return whether it was published.

        In a folder, one of several writers publishes its file. An object store has no such operation in Arrow: writers
        that begin in the same moment may all publish, and the last file stays.
        """
        ...

    def open(self, name: str) -> pa.NativeFile:
        """Open a file for random access (`read_at`, `size`); the caller closes it. Raises NotFound if there is none."""
        ...

    def read(self, name: str) -> bytes:
        """Return the content of a file; raise NotFound if there is none."""
        ...

    def download(self, name: str, path: Path) -> None:
        """Copy a file to a local path, in parts; raise NotFound if there is none."""
        ...

    def stat(self, name: str) -> FileInfo:
        """Describe a file; raise NotFound if there is none."""
        ...

    def names(self, folder: str = "") -> list[str]:
        """Return the sorted names of all files below a folder; by default, of all files."""
        ...

    def delete(self, *names: str) -> None:
        """Delete the files that exist. One call for many files is faster than a call for each."""
        ...

    def drop_unfinished(self, *, older_than: float) -> int:
        """Delete temporary files of interrupted writers that have not changed for `older_than` seconds.

        Returns:
            How many were deleted.
        """
        ...

    def check(self) -> None:
        """Test whether files can be published, read and deleted.

        Raises:
            InvalidRequest: They cannot. The message says why, and what to do.
            Unavailable: The disk is full.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class StoredFile:
    """A published file in a storage."""

    storage: Storage
    name: str

    def stat(self) -> FileInfo:
        """Describe the file; raise NotFound if it is lost."""
        return self.storage.stat(self.name)

    def open(self) -> pa.NativeFile:
        """Open the file for random access; the caller closes it. Raises NotFound if it is lost."""
        return self.storage.open(self.name)

    def read(self) -> bytes:
        """Return the content of the file; raise NotFound if it is lost."""
        return self.storage.read(self.name)

    def download(self, path: Path) -> None:
        """Copy the file to a local path, in parts; raise NotFound if it is lost."""
        self.storage.download(self.name, path)


def is_name(name: str) -> bool:
    """Return whether a name is valid, so that it cannot leave the root of the storage."""
    return _NAME.fullmatch(name) is not None


def checked_name(name: str) -> str:
    """Return a valid name unchanged; raise NotFound for any other, because no file can have it."""
    if not is_name(name):
        raise NotFound(f"{name!r} is not a valid file name")
    return name
