"""Says that a path does not exist, and which one was probably meant."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path

_MAX_LISTED = 5
_MAX_SEARCHED = 1000
"""Entries of a folder among which a name that is spelled alike is looked for."""


def is_path(value: str) -> bool:
    """Return whether a value that could be a name on the Hub, `organization/name`, is rather meant as a path."""
    return value.startswith((".", "/", "~")) or value.count("/") != 1 or Path(value).parent.is_dir()


def no_folder(path: Path) -> str:
    """Return the message that there is no folder at a path."""
    if path.exists():
        return f"{path} is not a folder"
    return f"there is no folder {path}{_meant(path, Path.is_dir)}"


def no_file(path: Path) -> str:
    """Return the message that there is no file at a path."""
    if path.exists():
        return f"{path} is not a file"
    return f"there is no file {path}{_meant(path, Path.is_file)}"


def _meant(path: Path, is_kind: Callable[[Path], bool]) -> str:
    """Return a note with the sibling that is spelled alike, the only few siblings, or the parent that is missing."""
    parts = path.parts
    if parts and parts[0].startswith("~"):
        return "; ~ was not expanded, write the path of your home folder"
    if not path.parent.is_dir():
        missing = next(parent for parent in reversed(path.parents) if not parent.is_dir())
        return f", since there is no folder {missing}"
    try:
        siblings = [each for each, _ in zip(path.parent.iterdir(), range(_MAX_SEARCHED), strict=False)]
    except OSError:
        return ""
    names = sorted(each.name for each in siblings if is_kind(each) and not each.name.startswith("."))
    if close := get_close_matches(path.name, names, n=1):
        return f"; did you mean {path.with_name(close[0])}?"
    if names and len(names) <= _MAX_LISTED and path.parent != Path():
        return f"; {path.parent} has {', '.join(names)}"
    return ""
