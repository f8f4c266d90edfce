from __future__ import annotations

import gzip
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ampsweep.errors import InvalidRequest
from jobs.data.texts import read_texts, text_files
from tests.jobs.tasks.real_data import DATA, needs
from tests.jobs.world import write_jsonl

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
def test_a_text_is_the_same_in_every_form(tmp_path: Path, name: str, column: str) -> None:
    (tmp_path / "dev").mkdir()
    path = write(tmp_path / "dev" / name, column)
    assert text_files(tmp_path, "dev", default="devtest") == {"fr": path}
    assert read_texts(path) == TEXTS


def test_data_without_splits_is_its_default_split_alone(tmp_path: Path) -> None:
    path = write(tmp_path / "fr.txt", "text")
    assert text_files(tmp_path, "devtest", default="devtest") == {"fr": path}
    with pytest.raises(InvalidRequest, match="no split 'dev'; splits there: none"):
        text_files(tmp_path, "dev", default="devtest")


def test_a_missing_split_lists_those_that_are_there(tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    with pytest.raises(InvalidRequest, match="no split 'devtest'; splits there: dev"):
        text_files(tmp_path, "devtest", default="devtest")


@pytest.mark.parametrize("row", [{"texte": "Bonjour."}, {"text": 1}])
def test_a_row_without_text_is_named(tmp_path: Path, row: dict[str, object]) -> None:
    write_jsonl(tmp_path / "fr.jsonl", [{"text": "Salut."}, row] if "text" in row else [row])
    with pytest.raises(InvalidRequest, match=r"fr\.jsonl, row [12]: needs a text as one of text, sentence, prompt"):
        read_texts(tmp_path / "fr.jsonl")


@needs("ntrex128")
def test_the_published_corpora_without_splits_are_read() -> None:
    ntrex = text_files(DATA / "ntrex128", "devtest", default="devtest")
    assert len(read_texts(ntrex["fr"])) == 1997
    declaration = text_files(DATA / "udhr", "devtest", default="devtest")
    assert len(declaration) == 18
    assert len(read_texts(declaration["qu"])) == 59
