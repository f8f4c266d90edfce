"""Temporary folders that do not outlive their process for long, even if it is killed.

A folder is locked while its process lives; the kernel releases the lock of a killed process. The next process that
makes a folder of the same kind deletes those that are no longer locked. Unlike a process id, a lock also works between
containers that share a folder.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import weakref
from contextlib import suppress
from pathlib import Path
from types import TracebackType

_LOCK, _UNLOCKED = "lock", "lock.new"
_CONTENT = "files"


class TemporaryFolder:
    """A new, empty folder at `path`, which is deleted at the end of a `with` block, by `delete`, or with this object.

    Args:
        kind: What the folder is for. Its name is `ampsweep-KIND-...`, in the system's folder of temporary files.
    """

    def __init__(self, kind: str) -> None:
        prefix = f"ampsweep-{kind}-"
        _delete_abandoned(prefix)
        root = Path(tempfile.mkdtemp(prefix=prefix))
        self.path = root / _CONTENT
        try:
            self.path.mkdir()
            lock = _locked(root)
        except OSError:
            shutil.rmtree(root, ignore_errors=True)
            raise
        self._finalizer = weakref.finalize(self, _delete, root, lock)

    def delete(self) -> None:
        """Delete the folder with its content; a second call does nothing."""
        self._finalizer()

    def __enter__(self) -> Path:
        """Return the path."""
        return self.path

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Delete the folder."""
        self.delete()


def _locked(root: Path) -> int:
    """Lock a folder and return the descriptor that holds the lock.

    The lock gets its name once it is held, so that no other process can get it first.
    """
    lock = os.open(root / _UNLOCKED, os.O_CREAT | os.O_RDWR, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    (root / _UNLOCKED).rename(root / _LOCK)
    return lock


def _delete(root: Path, lock: int) -> None:
    shutil.rmtree(root, ignore_errors=True)
    os.close(lock)


def _delete_abandoned(prefix: str) -> None:
    """Delete the folders of processes that have ended, except those of other users."""
    for path in Path(tempfile.gettempdir()).glob(f"{prefix}*/{_LOCK}"):
        with suppress(OSError):
            lock = os.open(path, os.O_RDWR)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path.parent, ignore_errors=True)
            finally:
                os.close(lock)
