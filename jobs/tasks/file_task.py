"""Base classes of tasks whose items come from files."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from ampsweep.hashing import files_hash
from jobs.cell import TaskRef
from jobs.data.language_files import language_files
from jobs.data.rows import REPAIRS
from jobs.data.texts import read_texts, text_files


class FileTask(ABC):
    """A task whose items are determined by files. Their hash, and what the reader repairs, are part of a cell's id."""

    supports_chat = True
    limit_draws = False
    language_needs: ClassVar[str | None] = None
    """What the data or the task must have for a language, for the error about one that is unknown."""

    @abstractmethod
    def files(self, folder: Path, split: str | None, language: str) -> list[Path]:
        """Return the files that the items of a language come from."""

    def resolve(self, folder: Path, ref: TaskRef) -> TaskRef:
        """Complete a reference with the hash of its files' names and bytes, and the reader's repairs."""
        data_hash = files_hash(self.files(folder, ref.split, ref.data_language))
        return replace(ref, data_hash=data_hash, repairs=tuple(sorted(self.repairs(folder, ref).items())))

    def repairs(self, folder: Path, ref: TaskRef) -> Mapping[str, int]:
        """Return how often the reader repairs the data, by kind (`jobs.data.rows.REPAIRS`)."""
        del folder, ref
        return {}

    def warnings(self, folder: Path, refs: Sequence[TaskRef]) -> list[str]:
        """Return the reader's repairs, by language."""
        del folder
        messages = (
            f"{ref.name} {ref.data_language}: {REPAIRS[kind].format(count=count)}"
            for ref in refs
            for kind, count in ref.repairs
        )
        return list(dict.fromkeys(messages))


class LanguageFileTask(FileTask):
    """A task over a data set with one file for each language (`<language>.jsonl`, for example) and without splits."""

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


class TextFileTask(FileTask):
    """A task over a corpus with one file of texts for each split and language (`devtest/fr.txt`, for example)."""

    needs_target_language = False
    default_data = "flores200"
    default_split = "devtest"

    def languages(self, folder: Path, split: str | None) -> frozenset[str]:
        """Return the languages that have a file in the split."""
        return frozenset(self._files(folder, split))

    def files(self, folder: Path, split: str | None, language: str) -> list[Path]:
        """Return the file of a language."""
        return [self._files(folder, split)[language]]

    def repairs(self, folder: Path, ref: TaskRef) -> Mapping[str, int]:
        """Return how many blank lines the reader leaves out."""
        (path,) = self.files(folder, ref.split, ref.data_language)
        return read_texts(path).repairs

    def _files(self, folder: Path, split: str | None) -> dict[str, Path]:
        return text_files(folder, split or self.default_split, default=self.default_split)
