"""A corpus as planning sees it: which languages a folder has, and a hash of their sentences.

Files are `<code>.txt` or `<code>.txt.gz`, one sentence a line, where the code is a language's two-letter or FLORES
code. The hash is the one that the identification of neurons uses; a test holds the two together.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from ampsweep.canonical import content_hash
from ampsweep.errors import InvalidRequest, UnknownName
from jobs.data.text import read_lines

_FLORES = (
    "en=eng_Latn nl=nld_Latn id=ind_Latn ms=zsm_Latn vi=vie_Latn ja=jpn_Jpan zh=zho_Hans fr=fra_Latn pt=por_Latn "
    "ru=rus_Cyrl et=est_Latn ht=hat_Latn it=ita_Latn qu=quy_Latn sw=swh_Latn ta=tam_Taml th=tha_Thai tr=tur_Latn"
)
_SHORT = {flores: short for short, flores in (pair.split("=") for pair in _FLORES.split())}


def corpus_files(folder: Path) -> dict[str, Path]:
    """Return a corpus' files by language; InvalidRequest where there is none."""
    found = {
        _SHORT.get(code, code): path
        for path in (sorted(folder.iterdir()) if folder.is_dir() else ())
        if (code := path.name.removesuffix(".gz").removesuffix(".txt")) and path.name.endswith((".txt", ".txt.gz"))
    }
    if not found:
        raise InvalidRequest(f"corpus folder {folder.name} has no <language>.txt or <language>.txt.gz")
    return found


def corpus_hash(folder: Path, languages: Iterable[str], *, param: str) -> str:
    """Return 64 hex digits over the sentences of some languages; blank lines and outer white space do not count.

    Raises UnknownName (at `param`.<index>) for a language the corpus does not have.
    """
    files = corpus_files(folder)
    hashes: dict[str, str] = {}
    for index, code in enumerate(languages):
        if _SHORT.get(code, code) not in files:
            raise UnknownName("corpus language", code, files, param=f"{param}.{index}")
        path = files[_SHORT.get(code, code)]
        hashes[code] = _text_hash(path, path.stat().st_size, path.stat().st_mtime_ns)
    return content_hash(hashes, length=64)


@lru_cache(maxsize=1024)
def _text_hash(path: Path, _size: int, _time: int) -> str:
    digest = hashlib.sha256()
    for text in read_lines(path):
        digest.update(text.encode() + b"\n")
    return digest.hexdigest()
