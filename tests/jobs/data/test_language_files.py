from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ampsweep.errors import InvalidRequest
from jobs.data.language_files import language_files
from jobs.data.rows import read_rows

ROWS = [{"id": "a", "text": "un"}, {"id": "b", "text": "deux"}]


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".parquet"])
def test_rows_are_the_same_in_every_format(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"fra_Latn{suffix}"
    lines = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
    if suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(ROWS), path)
    else:
        path.write_bytes(gzip.compress(lines) if suffix.endswith(".gz") else lines)
    assert language_files(tmp_path) == {"fr": path}
    assert [row.values for row in read_rows(path, required=("id", "text"))] == ROWS
    with pytest.raises(InvalidRequest, match=rf"{path.name}.* has no .*label"):
        read_rows(path, required=("id", "label"))


def test_a_split_is_part_of_the_name(tmp_path: Path) -> None:
    for name in ("val.it.jsonl", "test.it.jsonl", "it.jsonl", "README.md"):
        (tmp_path / name).write_text("")
    assert language_files(tmp_path, split="val") == {"it": tmp_path / "val.it.jsonl"}
    assert language_files(tmp_path) == {"it": tmp_path / "it.jsonl"}


def test_if_no_file_fits_the_error_lists_the_files(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(InvalidRequest, match=r"no <language>\.jsonl.*it has: notes\.txt"):
        language_files(tmp_path)


def test_two_files_for_one_language_are_refused(tmp_path: Path) -> None:
    (tmp_path / "fr.jsonl").write_text("")
    (tmp_path / "fra_Latn.parquet").write_text("")
    with pytest.raises(InvalidRequest, match="two files for fr"):
        language_files(tmp_path)


def test_a_broken_parquet_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "fr.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(InvalidRequest, match=r"fr\.parquet cannot be read"):
        read_rows(tmp_path / "fr.parquet")


def test_a_folder_or_a_broken_link_is_refused_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "en.jsonl").write_text("")
    (tmp_path / "fr.jsonl").symlink_to(tmp_path / "missing.jsonl")
    with pytest.raises(InvalidRequest, match=r"fr\.jsonl in .* is a folder or a broken link; rename or remove it"):
        language_files(tmp_path)
    (tmp_path / "fr.jsonl").unlink()
    (tmp_path / "fr.jsonl").mkdir()
    with pytest.raises(InvalidRequest, match=r"fr\.jsonl in .* is a folder or a broken link"):
        language_files(tmp_path)


def test_a_file_that_was_deleted_after_planning_is_an_error_about_its_language(tmp_path: Path) -> None:
    (tmp_path / "en.jsonl").write_text("")
    files = language_files(tmp_path)
    assert files.get("fr") is None
    with pytest.raises(InvalidRequest, match=r"has no data for fr; put it back, or .* languages there: en"):
        files["fr"]
