"""Atomic, durable writing of files."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ampsweep.errors import InvalidRequest, Unavailable, shortened

_OTHER_FORMATS = (".csv", ".tsv", ".json", ".jsonl", ".txt", ".xlsx")
_OTHER_FILE = "give the path of another file"
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
FREE_SPACE = "free some space on that disk"
"""What to do about a full disk."""


def not_utf8(text: str) -> str:
    """Return the message about a path that is not UTF-8, which Parquet's and others' libraries cannot open."""
    remedy = "rename the file or folder, or set a locale of UTF-8 (LANG=C.UTF-8)"
    return f"{shortened(ascii(text))} has bytes that are not UTF-8; {remedy}"


@contextmanager
def atomic_write(target: Path, *, mode: int = 0o644, replace: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside `target`; rename it to `target` if the block succeeds, else delete it.

    The file and its folder are synced, so that the complete file survives a power cut after the block. Readers see
    either the old file or the new one.

    Args:
        target: The file to write. Its parent folder must exist.
        mode: The permissions of the file.
        replace: Whether the target may exist already.

    Raises:
        FileExistsError: The target exists, and may not.
        OSError: The disk is full, for example; the error names the target, also where the system names no file.
        InvalidRequest: The target is a device, a pipe or a socket, which a rename would replace by a file.
    """
    if is_special(target):
        raise InvalidRequest(f"{target} is not a regular file and would be replaced by one; {_OTHER_FILE}")
    prefix = f".{target.name[:40]}."  # a name may have 255 bytes
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=prefix, suffix=".tmp")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(mode)
        if replace:
            temporary.replace(target)
        else:
            _link(temporary, target)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None and (is_full(error) or error.errno == errno.EFBIG):
            error.filename = str(target)
        raise
    sync_folder(target.parent)


def _link(source: Path, target: Path) -> None:
    """Rename a file to a target that does not exist; raise FileExistsError if it does, even if it appears just now."""
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links, where only this check is possible
        if target.exists():
            raise FileExistsError(target) from None
        source.replace(target)
    else:
        source.unlink()


def is_full(error: OSError) -> bool:
    """Return whether an error says that a disk is full, or a user's share of it."""
    return error.errno in _FULL


def write_problem(error: OSError) -> str:
    """Return why a file could not be written and, if the disk is full, what to do."""
    reason = error.strerror or str(error)
    return f"{reason}; {FREE_SPACE}" if is_full(error) else reason


def check_folder(folder: Path, *, param: str) -> None:
    """Check that a folder can be written to, before anything is computed for it.

    For a folder that does not exist yet, its nearest existing parent is checked.

    Raises:
        InvalidRequest: The folder cannot be written to, or is a broken link; its `param` is `param`.
        Unavailable: Its disk is full.
    """
    existing = folder.absolute()
    while not existing.exists() and existing != existing.parent:
        if existing.is_symlink():
            raise InvalidRequest(f"{existing} is a broken symbolic link; give another folder", param=param)
        existing = existing.parent
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        if is_full(error):
            raise Unavailable(f"cannot write to {existing}: {write_problem(error)}", param=param) from error
        raise InvalidRequest(
            f"cannot write to {existing}: {error.strerror}; give a folder that this user may write to", param=param
        ) from error


def output_file(path: Path, *, param: str, inputs: Iterable[Path] = ()) -> Path:
    """Check that a command can write its output file, before anything is computed for it.

    Args:
        path: The file as the user named it.
        param: The option that named it, for errors.
        inputs: The files that the command reads.

    Returns:
        The path to write to: that of the file that `path` is a symbolic link to, otherwise `path` itself.

    Raises:
        InvalidRequest: The folder is missing or cannot be written to, or the path is that of a folder, of an input, or
            of a device or pipe.
    """
    if path.is_dir():
        raise InvalidRequest(f"{path} is a folder; {_OTHER_FILE}", param=param)
    if is_special(path):
        raise InvalidRequest(f"{path} is not a regular file and would be replaced by one; {_OTHER_FILE}", param=param)
    if path.exists() and any(other.exists() and path.samefile(other) for other in inputs):
        raise InvalidRequest(f"{path} is one of the files to read; {_OTHER_FILE}", param=param)
    target = Path(os.path.realpath(path)) if path.is_symlink() else path
    if target.is_symlink():
        raise InvalidRequest(f"{path} is a symbolic link that leads back to itself; {_OTHER_FILE}", param=param)
    if not target.parent.is_dir():
        raise InvalidRequest(f"the folder {target.parent} does not exist; create it first", param=param)
    check_folder(target.parent, param=param)
    return target


def parquet_output(path: Path, *, param: str, inputs: Iterable[Path] = ()) -> Path:
    """Check the Parquet file that a command writes; see `output_file`. The suffix of another format is an error."""
    target = output_file(path, param=param, inputs=inputs)
    if path.suffix.lower() in _OTHER_FORMATS:
        other = path.with_suffix(".parquet")
        raise InvalidRequest(f"{path} would hold Parquet in spite of its name; name it {other}", param=param)
    return target


def is_special(path: Path) -> bool:
    """Return whether a path exists and is neither a file nor a folder, such as /dev/null or a pipe."""
    return path.exists() and not path.is_file() and not path.is_dir()


def sync_folder(folder: Path) -> None:
    """Make renames and deletions in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
