"""Canonical JSON, and hashes of values, files and folders.

Canonical JSON has sorted keys, no spaces, UTF-8, and floats as their shortest repr; callers keep integral floats as
floats. NaN and infinities are rejected.
"""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def canonical_json(value: Any) -> str:
    """Return the canonical JSON text of `value` (dicts, lists, strings, finite numbers, booleans, None)."""
    return _ENCODER.encode(value)


def content_hash(value: Any, *, length: int = 32) -> str:
    """Return the first `length` hex digits of the SHA-256 of the canonical JSON of `value`."""
    return text_hash(canonical_json(value), length=length)


def text_hash(text: str, *, length: int = 32) -> str:
    """Return the first `length` hex digits of the SHA-256 of a text in UTF-8."""
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def file_hash(path: Path) -> str:
    """Return the SHA-256 (64 hex digits) of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
