"""Data with a file a language: JSON lines, Parquet or plain text, named by the language's code."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from ampsweep.domain.languages import short_code
from ampsweep.errors import InvalidRequest

SUFFIXES = (".jsonl", ".jsonl.gz", ".parquet")
TEXT_SUFFIXES = (*SUFFIXES, ".txt", ".txt.gz")


def language_files(
    folder: Path, *, split: str | None = None, suffixes: Sequence[str] = SUFFIXES, other: Iterable[str] = ()
) -> dict[str, Path]:
    """Return the files `<language>.<suffix>`, with a split `<split>.<language>.<suffix>`, named by `short_code`.

    Names in `other` (without suffix) are no languages. Raises InvalidRequest where there is none, listing what there
    is, and where a language has two.
    """
    found: dict[str, Path] = {}
    entries = sorted(folder.iterdir()) if folder.is_dir() else []
    for path in entries:
        stem = stem_of(path, suffixes)
        parts = [] if stem is None else stem.split(".")
        if (
            (stem is not None and stem in other)
            or len(parts) != (1 if split is None else 2)
            or (split is not None and parts[0] != split)
        ):
            continue
        code = short_code(parts[-1])
        if code in found:
            raise InvalidRequest(f"{folder.name} has two files for {code}: {found[code].name}, {path.name}")
        found[code] = path
    if not found:
        wanted = "<language>" if split is None else f"{split}.<language>"
        there = ", ".join(path.name for path in entries) or "nothing"
        kinds = f"{', '.join(suffixes[:-1])} or {suffixes[-1]}"
        raise InvalidRequest(f"{folder.name} has no {wanted}{kinds}; it has: {there}")
    return found


def stem_of(path: Path, suffixes: Sequence[str] = SUFFIXES) -> str | None:
    """Return a file's name without its suffix; None where it has none of these."""
    suffix = max((suffix for suffix in suffixes if path.name.endswith(suffix)), key=len, default=None)
    return None if suffix is None else path.name.removesuffix(suffix)
