"""Files below a folder of this machine, or of a disk that all machines share under the same path."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pyarrow as pa

from ampsweep.errors import InvalidRequest, NotFound
from ampsweep.files import atomic_write, sync_folder
from jobs.storage.protocol import FileInfo, checked_name

PROBE = "writable-probe"
"""The name of the file that `check` publishes and removes."""


class LocalStorage:
    """The files below one folder, which is made with its first file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def root(self) -> str:
        """The folder."""
        return str(self._folder)

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """Yield a path beside the file's own, which a clean exit renames."""
        target = self._path(name)
        _make(target.parent)
        with atomic_write(target) as path:
            yield path

    def open(self, name: str) -> pa.NativeFile:
        """Open a file."""
        try:
            return pa.OSFile(str(self._path(name)))
        except FileNotFoundError:
            raise _missing(name) from None

    def read(self, name: str) -> bytes:
        """Return a file's content."""
        try:
            return self._path(name).read_bytes()
        except FileNotFoundError:
            raise _missing(name) from None

    def stat(self, name: str) -> FileInfo:
        """Look at a file; its `etag` has the time of its last change, which a copy that keeps dates cannot set back."""
        path = self._path(name)
        if not path.is_file():
            raise _missing(name)
        found = path.stat()
        etag = f"{found.st_ctime_ns:x}-{found.st_size:x}"
        return FileInfo(size=found.st_size, modified=found.st_mtime, etag=etag)

    def names(self, folder: str = "") -> list[str]:
        """Return the names of all files; what is being written does not count."""
        join = self._path(folder) if folder else self._folder
        found = (path.relative_to(self._folder) for path in join.rglob("*") if path.is_file())
        return sorted(path.as_posix() for path in found if not any(part.startswith(".") for part in path.parts))

    def delete(self, name: str) -> None:
        """Remove a file."""
        path = self._path(name)
        path.unlink(missing_ok=True)
        if path.parent.is_dir():
            sync_folder(path.parent)

    def drop_unfinished(self, *, older_than: float) -> int:
        """Remove the temporary files of `atomic_write`."""
        dropped = 0
        for path in self._folder.rglob(".*.tmp"):
            with suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime >= older_than:
                    path.unlink()
                    dropped += 1
        return dropped

    def check(self) -> None:
        """Write and remove a file."""
        try:
            with self.writing(PROBE) as path:
                path.write_bytes(b"written")
            self.delete(PROBE)
        except OSError as error:
            message = f"cannot write below {self.root}: {error.strerror}; give a folder that this user may write to"
            raise InvalidRequest(message, param="results") from error

    def _path(self, name: str) -> Path:
        return self._folder / checked_name(name)


def _make(folder: Path) -> None:
    """Make a folder and those above it, so that they outlast a crash."""
    if not folder.is_dir():
        _make(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def _missing(name: str) -> NotFound:
    return NotFound(f"there is no file {name}")
