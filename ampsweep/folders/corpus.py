"""A corpus: a folder of plain text, one file a language, one sentence a line.

Files are `<code>.txt` or `<code>.txt.gz`, UTF-8, where the code is what the caller calls the language, or the same
language's two-letter or FLORES code. Blank lines and the white space around a sentence do not count.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ampsweep.domain.languages import one_language_twice, short_code, unknown_language
from ampsweep.errors import InvalidRequest
from ampsweep.folders.text import read_lines
from ampsweep.hashing import content_hash

_SUFFIXES = (".txt", ".txt.gz")


@dataclass(frozen=True, kw_only=True)
class Sentence:
    """One sentence of a corpus, in its language."""

    language: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """The chosen languages of a folder. `hash` is over their sentences: not over file names, nor over compression."""

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
        """Find the languages' files (default: every file's) and hash them; languages are named by `short_code`.

        Raises InvalidRequest for a folder without text, a file that is no UTF-8 text or without sentences, and two
        files or two codes for one language; UnknownName (at `param`.<index>) for a language without a file, listing
        those that have one.
        """
        found = _files(folder)
        asked = sorted(found) if languages is None else languages
        for index, code in enumerate(asked):
            if short_code(code) not in found:
                raise unknown_language("corpus language", code, found, param=f"{param}.{index}")
        if twice := one_language_twice(asked):
            raise InvalidRequest(twice, param=param)
        if not asked:
            raise InvalidRequest("languages must be at least one", param=param)
        files = {code: found[code] for code in sorted({short_code(code) for code in asked})}
        return cls(
            name=name or folder.name,
            hash=content_hash({code: _text_hash(path) for code, path in files.items()}, length=64),
            files=files,
        )

    @property
    def languages(self) -> tuple[str, ...]:
        """The languages, in the order of their codes; it is that of the neuron set made of them."""
        return tuple(self.files)

    def sentences(self) -> Iterator[Sentence]:
        """Read all sentences, one language after another, each in the order of its file."""
        for language, path in self.files.items():
            for text in read_lines(path):
                yield Sentence(language=language, text=text)


def _files(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise InvalidRequest(f"corpus folder {folder.name} is not there", param="corpus")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if not path.name.endswith(_SUFFIXES):
            continue
        code = short_code(path.name.removesuffix(".gz").removesuffix(".txt"))
        if code in found:
            raise InvalidRequest(
                f"{folder.name} has two files for {code}: {found[code].name}, {path.name}", param="corpus"
            )
        found[code] = path
    if not found:
        there = ", ".join(sorted(path.name for path in folder.iterdir())) or "nothing"
        raise InvalidRequest(
            f"{folder.name} has no <language>.txt or <language>.txt.gz; it has: {there}", param="corpus"
        )
    return found


def _text_hash(path: Path) -> str:
    stat = path.stat()
    return _hash_unchanged(path, stat.st_size, stat.st_mtime_ns, stat.st_ino)


@lru_cache(maxsize=1024)
def _hash_unchanged(path: Path, _size: int, _time: int, _inode: int) -> str:
    digest = hashlib.sha256()
    for text in read_lines(path):
        digest.update(text.encode() + b"\n")
    if digest.digest() == hashlib.sha256().digest():
        raise InvalidRequest(f"{path.name} has no sentences", param="corpus")
    return digest.hexdigest()
