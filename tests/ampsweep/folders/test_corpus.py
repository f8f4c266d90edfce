from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from ampsweep.domain.languages.codes import FLORES_CODES
from ampsweep.errors import InvalidRequest, UnknownName
from ampsweep.folders.corpus import Corpus, Sentence


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "eng_Latn.txt").write_text("One.\n\n  Two.  \n", encoding="utf-8")
    (tmp_path / "fr.txt.gz").write_bytes(gzip.compress("Été.\n".encode()))
    (tmp_path / "notes.md").write_text("not a language")
    return tmp_path


def test_sentences_come_by_language_in_the_order_of_the_file(folder: Path) -> None:
    corpus = Corpus.open(folder)
    assert corpus.languages == ("en", "fr")
    assert list(corpus.sentences()) == [
        Sentence(language="en", text="One."),
        Sentence(language="en", text="Two."),
        Sentence(language="fr", text="Été."),
    ]


@pytest.mark.parametrize("code", ["en", "eng", "eng_Latn"])
def test_a_language_has_its_two_letter_code_however_it_is_asked_for(folder: Path, code: str) -> None:
    corpus = Corpus.open(folder, languages=[code])
    assert corpus.languages == ("en",)
    assert corpus.hash == Corpus.open(folder, languages=["en"]).hash
    assert {sentence.language for sentence in corpus.sentences()} == {"en"}


def test_the_hash_is_of_the_sentences_of_the_chosen_languages(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "en.txt.gz").write_bytes(gzip.compress(b"One.\nTwo.\n"))
    (other / "fr.txt").write_text("Été.", encoding="utf-8")
    both = Corpus.open(folder, languages=["en", "fr"])
    assert Corpus.open(other, languages=["fr", "en"]).hash == both.hash
    assert Corpus.open(folder, languages=["en"]).hash != both.hash
    (other / "fr.txt").write_text("Étés.", encoding="utf-8")
    assert Corpus.open(other, languages=["en", "fr"]).hash != both.hash


def test_a_missing_language_is_an_error_that_lists_the_languages(folder: Path) -> None:
    with pytest.raises(UnknownName, match="known: en, fr") as caught:
        Corpus.open(folder, languages=["en", "tr"])
    assert caught.value.param == "languages.1"


@pytest.mark.parametrize(
    ("codes", "message"), [([], "at least one"), (["en", "eng_Latn"], "en and eng_Latn are one language")]
)
def test_no_language_and_one_language_twice_are_refused(folder: Path, codes: list[str], message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        Corpus.open(folder, languages=codes)


def test_a_folder_without_text_is_an_error_that_lists_its_files(tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("x")
    with pytest.raises(InvalidRequest, match=r"it has: notes\.md"):
        Corpus.open(tmp_path)
    with pytest.raises(InvalidRequest, match="does not exist"):
        Corpus.open(tmp_path / "missing")


def test_every_flores_code_is_a_file_name(tmp_path: Path) -> None:
    for code in FLORES_CODES.values():
        (tmp_path / f"{code}.txt").write_text("x\n")
    assert set(Corpus.open(tmp_path).languages) == set(FLORES_CODES)


def test_two_files_of_a_language_are_refused(folder: Path) -> None:
    (folder / "en.txt").write_text("One.")
    with pytest.raises(InvalidRequest, match="two files for en"):
        Corpus.open(folder)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("tr.txt", b"One.\n\xff\xfe", r"tr\.txt, line 2: cannot be read as UTF-8"),
        ("tr.txt.gz", gzip.compress(b"One.", mtime=0)[:10] + b"\xff" * 20, "cannot be read"),  # a zlib.error
        ("tr.txt.gz", b"no gzip", "cannot be read"),
        ("tr.txt.gz", gzip.compress(b"One.", mtime=0)[:-8], "cannot be read"),
        ("tr.txt", b"\n \n", "has no sentences"),
    ],
)
def test_a_file_that_is_not_text_is_named(folder: Path, name: str, content: bytes, message: str) -> None:
    (folder / name).write_bytes(content)
    with pytest.raises(InvalidRequest, match=message):
        Corpus.open(folder)


def test_the_codes_are_those_of_eighteen_languages() -> None:
    assert len(FLORES_CODES) == len(set(FLORES_CODES.values())) == 18


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("One.\nTwo.\n".encode("utf-16-le"), "line 1: has a NUL character, as text in UTF-16 has"),
        ("One.\nTwo.\n".encode("utf-16"), "line 1: cannot be read as UTF-8 text"),
        (b"One.\nTwo.\rThree.\n", "line 2: has a carriage return between two texts"),
    ],
)
def test_another_encoding_or_other_line_ends_are_refused_with_the_remedy(
    folder: Path, content: bytes, problem: str
) -> None:
    (folder / "tr.txt").write_bytes(content)
    with pytest.raises(InvalidRequest, match=rf"tr\.txt, {problem}.*; save the file in UTF-8, with line feeds"):
        Corpus.open(folder)
    (folder / "tr.txt").write_bytes(b"One.\r\nTwo.\r\n")
    sentences = [sentence.text for sentence in Corpus.open(folder, languages=["tr"]).sentences()]
    assert sentences == ["One.", "Two."]


@pytest.mark.parametrize("name", ["tr.txt", "tr.txt.gz"])
def test_a_line_that_may_not_fit_into_memory_is_refused(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ampsweep.folders.text.MAX_LINE", 16)
    content = b"short\n" + 16 * b"a"
    (folder / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    with pytest.raises(InvalidRequest, match=rf"{name}, line 2: has 64 MiB or more; write one text a line"):
        Corpus.open(folder)


def test_what_accompanies_a_corpus_is_no_language(folder: Path) -> None:
    before = Corpus.open(folder)
    for name in ("README.txt", "LICENSE.txt", "._fr.txt", ".tr.txt"):
        (folder / name).write_bytes(b"\xff not text")
    assert Corpus.open(folder) == before


@pytest.mark.parametrize("name", ["fr (1).txt", "fr.old.txt"])
def test_a_file_that_is_not_named_by_a_code_is_refused(folder: Path, name: str) -> None:
    (folder / name).write_text("Une phrase.\n")
    with pytest.raises(InvalidRequest, match="is not named by a language code; rename or remove it") as caught:
        Corpus.open(folder)
    assert caught.value.param == "corpus"


def test_a_folder_or_a_broken_link_is_refused_by_its_name(folder: Path) -> None:
    (folder / "tr.txt").symlink_to(folder / "missing.txt")
    with pytest.raises(InvalidRequest, match=r"tr\.txt in .* is a folder or a broken link"):
        Corpus.open(folder)
    (folder / "tr.txt").unlink()
    (folder / "tr.txt").mkdir()
    with pytest.raises(InvalidRequest, match=r"tr\.txt in .* is a folder or a broken link"):
        Corpus.open(folder)
