"""Hashes of large files, computed again only when the file has changed."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from ampsweep.hashing import content_hash, file_hash


def cached_hash(path: Path) -> str:
    """Return the SHA-256 of a file's bytes; a file of the same size, time and inode is not read again."""
    stat = path.stat()
    return _hash(path, stat.st_size, stat.st_mtime_ns, stat.st_ino)


@lru_cache(maxsize=4096)
def _hash(path: Path, _size: int, _time: int, _inode: int) -> str:
    return file_hash(path)


def files_hash(files: list[Path], *, root: Path | None = None) -> str:
    """Return one hash (64 hex digits) over the names and bytes of some files, whatever their order.

    With a `root` their names are the paths below it.
    """
    named = [(path.name if root is None else path.relative_to(root).as_posix(), path) for path in sorted(files)]
    return content_hash([[name, cached_hash(path)] for name, path in named], length=64)
