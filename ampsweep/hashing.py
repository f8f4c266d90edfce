"""Canonical JSON, and hashes of values, files and folders.

Canonical JSON has sorted keys, no spaces, UTF-8, and floats as their shortest repr; callers keep integral floats as
floats. NaN and infinities are rejected.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any


def canonical_json(value: Any) -> str:
    """Return the canonical JSON text of `value` (dicts, lists, strings, finite numbers, booleans, None)."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def content_hash(value: Any, *, length: int = 32) -> str:
    """Return the first `length` hex digits of the SHA-256 of the canonical JSON of `value`."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:length]


def file_hash(path: Path) -> str:
    """Return the SHA-256 (64 hex digits) of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_hash(folder: Path, *, suffixes: tuple[str, ...] = ()) -> str:
    """Return one hash over the names and bytes of a folder's files, those that end in `suffixes` if any are given."""
    files = sorted(
        path for path in folder.iterdir() if path.is_file() and (not suffixes or path.name.endswith(suffixes))
    )
    return content_hash([[path.name, file_hash(path)] for path in files], length=64)
