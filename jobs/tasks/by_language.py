"""What tasks over a file a language have in common: `<language>.jsonl` or its like, without splits."""

from __future__ import annotations

from pathlib import Path

from jobs.data.language_files import language_files
from jobs.tasks.base import FileTask


class ByLanguage(FileTask):
    """The files of a data set that `jobs.data.language_files` finds, each the whole of a language."""

    needs_target_language = False
    default_split = None

    def languages(self, folder: Path, split: str | None) -> frozenset[str]:
        """Return the languages that have a file."""
        del split
        return frozenset(language_files(folder))

    def files(self, folder: Path, split: str | None, language: str) -> list[Path]:
        """Return the file of a language."""
        del split
        return [language_files(folder)[language]]
