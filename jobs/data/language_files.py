"""Finds data files named by a language's code: JSON lines, Parquet or plain text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from ampsweep.domain.languages.codes import short_code
from ampsweep.errors import InvalidRequest
from jobs.data.rows import READERS, conversion

Value = TypeVar("Value")

SUFFIXES = (".jsonl", ".jsonl.gz", ".parquet")
TEXT_SUFFIXES = (*SUFFIXES, ".txt", ".txt.gz")


class ByLanguage(dict[str, Value]):
    """What a folder or a file has for each language. A missing language is an error that users can act on.

    A sweep is planned for languages that have data; the data of one may be deleted before its cells run.
    """

    def __init__(self, name: str, values: Mapping[str, Value]) -> None:
        super().__init__(values)
        self._name = name

    def __missing__(self, language: str) -> Value:
        there = ", ".join(sorted(self)) or "none"
        raise InvalidRequest(
            f"{self._name} has no data for {language}; put it back, or submit the sweep again without "
            f"this language; languages there: {there}"
        )


def language_files(
    folder: Path, *, split: str | None = None, suffixes: Sequence[str] = SUFFIXES, other: Iterable[str] = ()
) -> ByLanguage[Path]:
    """Return the files `<language>.<suffix>` in a folder, by `short_code`.

    Args:
        folder: The folder.
        split: Look for `<split>.<language>.<suffix>` instead.
        suffixes: The suffixes to look for, each with its dot.
        other: Names without suffix that are not languages.

    Raises:
        InvalidRequest: There is no such file (the message lists the files), there are two for one language, or one is
            a folder or a broken link.
    """
    files = ByLanguage[Path](folder.name, {})
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
        if code in files:
            raise InvalidRequest(f"{folder.name} has two files for {code}: {files[code].name}, {path.name}")
        if not path.is_file():
            raise InvalidRequest(f"{path.name} in {folder.name} is a folder or a broken link; rename or remove it")
        files[code] = path
    if not files:
        wanted = "<language>" if split is None else f"{split}.<language>"
        names = ", ".join(path.name for path in entries) or "nothing"
        kinds = f"{', '.join(suffixes[:-1])} or {suffixes[-1]}"
        tables = [path for path in entries if path.suffix.lower() in READERS]
        remedy = f"; convert {tables[0].name}: {conversion(tables[0].suffix.lower())}" if tables else ""
        raise InvalidRequest(f"{folder.name} has no {wanted}{kinds}; it has: {names}{remedy}")
    return files


def stem_of(path: Path, suffixes: Sequence[str] = SUFFIXES) -> str | None:
    """Return a file's name without its suffix; None if it has none of `suffixes`."""
    suffix = max((suffix for suffix in suffixes if path.name.endswith(suffix)), key=len, default=None)
    return None if suffix is None else path.name.removesuffix(suffix)
