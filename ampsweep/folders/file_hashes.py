"""Cached hashes of large files."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from ampsweep.hashing import content_hash, file_hash


def cached_hash(path: Path) -> str:
    """Return the SHA-256 of a file (64 hex digits); read it again only if its size, time or inode changed."""
    stat = path.stat()
    return _hash(path, stat.st_size, stat.st_mtime_ns, stat.st_ino)


@lru_cache(maxsize=4096)
def _hash(path: Path, _size: int, _time: int, _inode: int) -> str:
    return file_hash(path)


def files_hash(files: list[Path], *, root: Path | None = None) -> str:
    """Return a hash (64 hex digits) of the names and contents of files, independent of their order.

    Args:
        files: The files.
        root: If given, paths relative to it are hashed in place of the names.
    """
    named = [(path.name if root is None else path.relative_to(root).as_posix(), path) for path in sorted(files)]
    return content_hash([[name, cached_hash(path)] for name, path in named], length=64)
