from __future__ import annotations

import gzip
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ampsweep.errors import InvalidRequest
from jobs.data.texts import read_aligned, read_texts, text_files
from tests.jobs.cluster import write_jsonl
from tests.jobs.tasks.real_data import DATA, needs

TEXTS = ["Bonjour.", "Ça va ?"]


def write(path: Path, column: str) -> Path:
    rows = [{column: f" {text} "} for text in [*TEXTS, " "]]
    if path.name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.name.endswith(".jsonl"):
        write_jsonl(path, rows)
    else:
        content = "\n".join(row[column] for row in rows).encode()
        path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


@pytest.mark.parametrize("name", ["fr.txt", "fra_Latn.txt.gz", "fr.jsonl", "fr.parquet"])
@pytest.mark.parametrize("column", ["text", "sentence", "prompt"])
def test_a_text_is_the_same_in_every_format(tmp_path: Path, name: str, column: str) -> None:
    (tmp_path / "dev").mkdir()
    path = write(tmp_path / "dev" / name, column)
    assert text_files(tmp_path, "dev", default="devtest") == {"fr": path}
    reading = read_texts(path)
    assert [(text.index, text.text) for text in reading.items] == list(enumerate(TEXTS))
    assert reading.repairs == {}


def test_data_without_splits_is_its_default_split_alone(tmp_path: Path) -> None:
    path = write(tmp_path / "fr.txt", "text")
    assert text_files(tmp_path, "devtest", default="devtest") == {"fr": path}
    with pytest.raises(InvalidRequest, match="no split 'dev'; it has no splits: leave split out"):
        text_files(tmp_path, "dev", default="devtest")


def test_a_missing_split_is_an_error_that_lists_the_splits(tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    with pytest.raises(InvalidRequest, match="no split 'devtest'; splits there: dev"):
        text_files(tmp_path, "devtest", default="devtest")


@pytest.mark.parametrize("split", ["../other", "..", ".", "", "dev/../../other", "{folder}/other"])
def test_a_split_is_never_used_as_a_path(tmp_path: Path, split: str) -> None:
    for folder in ("data/dev", "other"):
        (tmp_path / folder).mkdir(parents=True)
        write(tmp_path / folder / "fr.txt", "text")
    with pytest.raises(InvalidRequest, match=r"data has no split .*; splits there: dev$"):
        text_files(tmp_path / "data", split.format(folder=tmp_path), default="devtest")


def test_hidden_folders_are_no_splits(tmp_path: Path) -> None:
    path = write(tmp_path / "fr.txt", "text")
    (tmp_path / ".cache").mkdir()  # of `hf download --local-dir`
    assert text_files(tmp_path, "devtest", default="devtest") == {"fr": path}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"texte": "Bonjour."}, r"fr\.jsonl, line 1: has no text; put it under one of text, sentence, prompt"),
        ({"text": 1}, r"fr\.jsonl, line 3: text must be a text; got 1"),
        ({"text": None}, r"fr\.jsonl, line 3: text must be a text; got null"),
    ],
)
def test_a_row_without_text_is_named(tmp_path: Path, row: dict[str, object], message: str) -> None:
    write_jsonl(tmp_path / "fr.jsonl", [{"text": "Salut."}, {"text": ""}, row] if "text" in row else [row])
    with pytest.raises(InvalidRequest, match=message):
        read_texts(tmp_path / "fr.jsonl")


def write_texts(path: Path, texts: list[str]) -> Path:
    """The same lines in any form: in JSON lines and Parquet a row each, its text perhaps empty."""
    if path.suffix == ".txt":
        path.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    elif path.suffix == ".jsonl":
        write_jsonl(path, [{"text": text} for text in texts])
    else:
        pq.write_table(pa.Table.from_pylist([{"text": text} for text in texts]), path)
    return path


FORMS = ["txt", "jsonl", "parquet"]


@pytest.mark.parametrize("form", FORMS)
def test_blank_lines_do_not_change_the_line_numbers_of_texts(tmp_path: Path, form: str) -> None:
    reading = read_texts(write_texts(tmp_path / f"fr.{form}", ["un", "", "  ", "quatre", "", ""]))
    assert [(text.index, text.text) for text in reading.items] == [(0, "un"), (3, "quatre")]
    assert reading.repairs == {"blank_lines": 2}  # those behind the last text shift nothing


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("source", "target", "line", "lacking"),
    [
        (["one", "", "three"], ["un", "deux", ""], 2, "en"),
        (["one", "two", "three"], ["un", "deux", ""], 3, "fr"),
        (["one", "two"], ["un", "deux", "trois"], 3, "en"),
    ],
)
def test_a_line_that_one_language_lacks_is_refused_by_its_number(
    tmp_path: Path, form: str, source: list[str], target: list[str], line: int, lacking: str
) -> None:
    english = write_texts(tmp_path / f"en.{form}", source)
    french = write_texts(tmp_path / "fr.txt", target)
    lacks = english if lacking == "en" else french
    with pytest.raises(InvalidRequest, match=rf"not aligned: line {line} of {lacks.name} is blank or missing"):
        read_aligned(english, french)


@pytest.mark.parametrize("form", FORMS)
def test_a_line_that_is_blank_in_both_files_is_skipped(tmp_path: Path, form: str) -> None:
    english = write_texts(tmp_path / f"en.{form}", ["one", "", "three"])
    french = write_texts(tmp_path / "fr.txt", ["un", " ", "trois", ""])
    pairs = [(source.index, source.text, target.text) for source, target in read_aligned(english, french)]
    assert pairs == [(0, "one", "un"), (2, "three", "trois")]


@pytest.mark.parametrize("name", ["fr.txt", "fr.jsonl"])
def test_a_byte_order_mark_is_not_part_of_the_first_text(tmp_path: Path, name: str) -> None:
    path = write_texts(tmp_path / name, ["Bonjour.", "Salut."])
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert [text.text for text in read_texts(path).items] == ["Bonjour.", "Salut."]


@needs("ntrex128")
def test_the_published_corpora_without_splits_are_read() -> None:
    ntrex = text_files(DATA / "ntrex128", "devtest", default="devtest")
    assert len(read_texts(ntrex["fr"]).items) == 1997
    declaration = text_files(DATA / "udhr", "devtest", default="devtest")
    assert len(declaration) == 18
    assert len(read_texts(declaration["qu"]).items) == 59


def test_a_file_without_texts_is_refused(tmp_path: Path) -> None:
    (tmp_path / "fr.txt").write_text("\n \n")
    with pytest.raises(InvalidRequest, match=r"fr\.txt has no texts"):
        read_texts(tmp_path / "fr.txt")
