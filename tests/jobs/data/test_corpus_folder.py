from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from ampsweep.errors import InvalidRequest, UnknownName
from engine.corpus import Corpus
from engine.languages import FLORES_CODES
from jobs.data.corpus_folder import corpus_files, corpus_hash
from tests.jobs.world import write_corpus


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_corpus(tmp_path / "corpus")


def test_the_hash_is_the_one_that_identification_uses(folder: Path) -> None:
    (folder / "fr.txt").write_text("\ufeffUne phrase.\r\n\n Une autre.", encoding="utf-8")
    for chosen in (["en"], ["fr", "en"], ["zh", "tr", "fr"]):
        assert corpus_hash(folder, chosen, param="p") == Corpus.open(folder, languages=chosen).hash


def test_neither_compression_nor_blank_lines_nor_the_files_name_count(folder: Path) -> None:
    before = corpus_hash(folder, ["en", "fr"], param="p")
    text = (folder / "fr.txt").read_text()
    (folder / "fr.txt").unlink()
    (folder / "fra_Latn.txt.gz").write_bytes(gzip.compress(("\n\n" + text).encode()))
    assert corpus_hash(folder, ["en", "fr"], param="p") == before
    (folder / "en.txt").write_text("Something else.\n")
    assert corpus_hash(folder, ["en", "fr"], param="p") != before


def test_every_flores_code_is_known(tmp_path: Path) -> None:
    for code in FLORES_CODES.values():
        (tmp_path / f"{code}.txt").write_text("x\n")
    assert set(corpus_files(tmp_path)) == set(FLORES_CODES)


def test_what_is_missing_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="known: en, fr, tr, zh") as caught:
        corpus_hash(folder, ["en", "it"], param="neurons.languages")
    assert caught.value.param == "neurons.languages.1"
    with pytest.raises(InvalidRequest, match=r"has no <language>\.txt"):
        corpus_files(tmp_path / "nowhere")


def test_what_is_no_text_is_refused(folder: Path) -> None:
    (folder / "en.txt").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(InvalidRequest, match=r"en\.txt cannot be read as UTF-8"):
        corpus_hash(folder, ["en"], param="p")
    (folder / "fr.txt").unlink()
    (folder / "fr.txt.gz").write_bytes(gzip.compress(b"cut off here")[:-9])
    with pytest.raises(InvalidRequest, match=r"fr\.txt\.gz cannot be read"):
        corpus_hash(folder, ["fr"], param="p")
