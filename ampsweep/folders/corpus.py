"""Corpora: folders of plain text with one file per language and one sentence per line.

Files are named `<code>.txt` or `<code>.txt.gz`, in UTF-8; the code may be any code of the language (two-letter,
ISO 639-3 or FLORES). Blank lines and white space around a sentence are ignored, and so are hidden files and a README.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ampsweep.domain.languages.codes import one_language_twice, short_code, wrong_code
from ampsweep.domain.languages.unknown import unknown_language
from ampsweep.errors import InvalidRequest
from ampsweep.folders.text import read_lines
from ampsweep.hashing import content_hash

_SUFFIXES = (".txt", ".txt.gz")
_NO_LANGUAGE = (".", "readme", "license", "notice", "changelog")
"""Beginnings of the names of files that are not part of a corpus: hidden ones, and what accompanies data."""


@dataclass(frozen=True, kw_only=True)
class Sentence:
    """A sentence of a corpus and its language."""

    language: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """The chosen languages of a corpus. `hash` depends on languages and sentences, not on file names or compression."""

    name: str
    hash: str
    files: Mapping[str, Path]

    @classmethod
    def open(
        cls,
        folder: Path,
        *,
        languages: Sequence[str] | None = None,
        name: str | None = None,
        param: str = "languages",
    ) -> Corpus:
        """Find and hash the files of the languages.

        Args:
            folder: The folder of the corpus.
            languages: The codes of the languages; by default all languages of the folder.
            name: The name of the corpus; by default that of the folder.
            param: The field that named the languages, for errors.

        Raises:
            InvalidRequest: The folder has no text, a file is not UTF-8 or has no sentences, or there are two files or
                two codes for one language.
            UnknownName: A language has no file (`param` is `param`.<index>).
        """
        files_by_code = _files(folder)
        codes = sorted(files_by_code) if languages is None else languages
        for index, code in enumerate(codes):
            if short_code(code) not in files_by_code:
                raise unknown_language("corpus language", code, files_by_code, param=f"{param}.{index}")
        if twice := one_language_twice(codes):
            raise InvalidRequest(twice, param=param)
        if not codes:
            raise InvalidRequest("languages must be at least one", param=param)
        files = {code: files_by_code[code] for code in sorted({short_code(code) for code in codes})}
        return cls(
            name=name or folder.name,
            hash=content_hash({code: _measure(path).hash for code, path in files.items()}, length=64),
            files=files,
        )

    @property
    def languages(self) -> tuple[str, ...]:
        """The language codes, sorted; neuron sets identified on the corpus have the same order."""
        return tuple(self.files)

    def characters(self) -> Mapping[str, int]:
        """Return the length of the sentences of each language, in characters."""
        return {language: _measure(path).characters for language, path in self.files.items()}

    def sentences(self) -> Iterator[Sentence]:
        """Yield all sentences, language by language, in the order of the files."""
        for language, path in self.files.items():
            for text in read_lines(path):
                yield Sentence(language=language, text=text)


def corpus_languages(folder: Path) -> tuple[str, ...]:
    """Return the languages of a corpus, sorted, without reading it; raise InvalidRequest if there are none."""
    return tuple(sorted(_files(folder)))


def _files(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise InvalidRequest(f"corpus folder {folder.name} does not exist", param="corpus")
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if not path.name.endswith(_SUFFIXES) or path.name.lower().startswith(_NO_LANGUAGE):
            continue
        code = short_code(path.name.removesuffix(".gz").removesuffix(".txt"))
        if (unnamed := wrong_code(code) is not None) or not path.is_file():
            reason = "is not named by a language code" if unnamed else "is a folder or a broken link"
            raise InvalidRequest(f"{path.name} in {folder.name} {reason}; rename or remove it", param="corpus")
        if code in files:
            raise InvalidRequest(
                f"{folder.name} has two files for {code}: {files[code].name}, {path.name}", param="corpus"
            )
        files[code] = path
    if not files:
        names = ", ".join(sorted(path.name for path in folder.iterdir())) or "nothing"
        raise InvalidRequest(
            f"{folder.name} has no <language>.txt or <language>.txt.gz; it has: {names}", param="corpus"
        )
    return files


@dataclass(frozen=True, kw_only=True)
class _Text:
    """The hash of the sentences of a file, and their length in characters."""

    hash: str
    characters: int


def _measure(path: Path) -> _Text:
    stat = path.stat()
    return _measure_unchanged(path, stat.st_size, stat.st_mtime_ns, stat.st_ino)


@lru_cache(maxsize=1024)
def _measure_unchanged(path: Path, _size: int, _time: int, _inode: int) -> _Text:
    digest, characters = hashlib.sha256(), 0
    for text in read_lines(path):
        digest.update(text.encode() + b"\n")
        characters += len(text)
    if not characters:
        raise InvalidRequest(f"{path.name} has no sentences", param="corpus")
    return _Text(hash=digest.hexdigest(), characters=characters)
