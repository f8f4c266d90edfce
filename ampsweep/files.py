"""How a file is published: whole or not at all, and still there after a crash."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ampsweep.errors import InvalidRequest


@contextmanager
def atomic_write(target: Path, *, mode: int = 0o644) -> Iterator[Path]:
    """Yield a temporary path beside `target`; on a clean exit it becomes `target`, else it is removed.

    The file and its folder are synced, so after the block the name points at the complete bytes, also after a power
    cut. Readers see the old file or the new one, never a part. The parent folder must exist. `mode` are the
    file's permissions.
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
    """Refuse a folder that cannot be written to, before anything is computed for it.

    One that is not there yet is judged by the nearest that is. Raises InvalidRequest at `param`.
    """
    there = folder.absolute()
    while not there.exists() and there != there.parent:
        there = there.parent
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise InvalidRequest(
            f"cannot write to {there}: {error.strerror}; give a folder that this user may write to", param=param
        ) from error


def sync_folder(folder: Path) -> None:
    """Make a rename or an unlink in `folder` last."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
