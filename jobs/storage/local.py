"""Storage in a folder of this machine, or of a disk that all machines mount at the same path."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from stat import S_ISREG

import pyarrow as pa

from ampsweep.errors import InvalidRequest, NotFound, Unavailable
from ampsweep.files import atomic_write, is_full, sync_folder, write_problem
from ampsweep.mounts import Mount
from jobs.storage.protocol import FileInfo, checked_name

CHECK_FILE = "writable-probe"
"""The name of the file that `check` publishes and removes."""


class LocalStorage:
    """The files below one folder, which is created with the first file.

    Args:
        folder: The folder.
        holder: The folder that must exist, as for `Mount`.
    """

    def __init__(self, folder: Path, *, holder: Path | None = None) -> None:
        self._folder = folder
        self._mount = Mount(folder, holder=holder)

    @property
    def root(self) -> str:
        """The path of the folder."""
        return str(self._folder)

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """Yield the path of a temporary file in the same folder, which a clean exit renames to the file."""
        target = self._path(name)
        self._mount.check()
        _create_folder(target.parent)
        with atomic_write(target) as path:
            yield path

    def publish_new(self, name: str, content: bytes) -> bool:
        """Write a temporary file and rename it, unless the file exists by then."""
        target = self._path(name)
        self._mount.check()
        _create_folder(target.parent)
        try:
            with atomic_write(target, replace=False) as path:
                path.write_bytes(content)
        except FileExistsError:
            return False
        return True

    def open(self, name: str) -> pa.NativeFile:
        """Open a file."""
        try:
            return pa.OSFile(str(self._path(name)))
        except FileNotFoundError:
            raise self._missing(name) from None

    def read(self, name: str) -> bytes:
        """Return a file's content."""
        try:
            return self._path(name).read_bytes()
        except FileNotFoundError:
            raise self._missing(name) from None

    def download(self, name: str, path: Path) -> None:
        """Copy a file."""
        try:
            shutil.copyfile(self._path(name), path)
        except FileNotFoundError:
            raise self._missing(name) from None

    def stat(self, name: str) -> FileInfo:
        """Describe a file. The `etag` contains its ctime, which a copy that preserves timestamps cannot reset."""
        try:
            status = self._path(name).stat()
        except (FileNotFoundError, NotADirectoryError):
            raise self._missing(name) from None
        if not S_ISREG(status.st_mode):
            raise self._missing(name)
        etag = f"{status.st_ctime_ns:x}-{status.st_size:x}"
        return FileInfo(size=status.st_size, modified=status.st_mtime, etag=etag)

    def names(self, folder: str = "") -> list[str]:
        """Return the names of all published files."""
        root = self._path(folder) if folder else self._folder
        self._mount.check()
        paths = (path.relative_to(self._folder) for path in root.rglob("*") if path.is_file())
        return sorted(path.as_posix() for path in paths if not any(part.startswith(".") for part in path.parts))

    def delete(self, *names: str) -> None:
        """Delete files, and sync each of their folders once."""
        paths = [self._path(name) for name in names]
        for path in paths:
            path.unlink(missing_ok=True)
        for folder in {path.parent for path in paths}:
            if folder.is_dir():
                sync_folder(folder)

    def drop_unfinished(self, *, older_than: float) -> int:
        """Delete temporary files of `atomic_write`."""
        dropped = 0
        for path in self._folder.rglob(".*.tmp"):
            with suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime >= older_than:
                    path.unlink()
                    dropped += 1
        return dropped

    def check(self) -> None:
        """Publish a file and delete it."""
        try:
            with self.writing(CHECK_FILE) as path:
                path.write_bytes(b"written")
            self.delete(CHECK_FILE)
        except OSError as error:
            message = f"cannot write below {self.root}: {write_problem(error)}"
            if is_full(error):
                raise Unavailable(message) from error
            raise InvalidRequest(f"{message}; use a folder that this user may write to", param="results") from error

    def _path(self, name: str) -> Path:
        return self._folder / checked_name(name)

    def _missing(self, name: str) -> NotFound:
        """Return the error for a file that does not exist; raise Unavailable if its disk is not mounted."""
        self._mount.check()
        return NotFound(f"there is no file {name}")


def _create_folder(folder: Path) -> None:
    """Create a folder and its parents, and sync them so that they survive a crash."""
    if not folder.is_dir():
        _create_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)
