"""Atomic, durable writing of files."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ampsweep.errors import InvalidRequest


@contextmanager
def atomic_write(target: Path, *, mode: int = 0o644) -> Iterator[Path]:
    """Yield a temporary path beside `target`; rename it to `target` if the block succeeds, else delete it.

    The file and its folder are synced, so that the complete file survives a power cut after the block. Readers see
    either the old file or the new one.

    Args:
        target: The file to write. Its parent folder must exist.
        mode: The permissions of the file.
    """
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".tmp")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(mode)
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(target.parent)


def check_folder(folder: Path, *, param: str) -> None:
    """Check that a folder can be written to, before anything is computed for it.

    For a folder that does not exist yet, its nearest existing parent is checked.

    Raises:
        InvalidRequest: The folder cannot be written to; its `param` is `param`.
    """
    existing = folder.absolute()
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise InvalidRequest(
            f"cannot write to {existing}: {error.strerror}; give a folder that this user may write to", param=param
        ) from error


def sync_folder(folder: Path) -> None:
    """Make renames and deletions in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
