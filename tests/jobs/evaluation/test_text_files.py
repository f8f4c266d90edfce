"""Stored texts of several files: none counts twice, and those of equal names are told apart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ampsweep.errors import InvalidRequest
from jobs.evaluation.text_files import StoredTexts, read_stored_texts
from jobs.evaluation.texts import Columns, columns_of

ROW = {"completion": "Bonjour", "language": "fr", "factor": 1}


def write(path: Path, *rows: dict[str, Any]) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def read(*paths: Path) -> StoredTexts:
    return read_stored_texts(paths, Columns(text="completion", language="language", by=("factor",)))


def test_texts_of_files_of_one_name_are_no_answers_to_one_prompt(tmp_path: Path) -> None:
    first, second = write(tmp_path / "a" / "texts.jsonl", ROW, ROW), write(tmp_path / "b" / "texts.jsonl", ROW)
    other = write(tmp_path / "b" / "more.jsonl", ROW)
    stored = read(first, second, other).texts
    assert [text.key["file"] for text in stored] == [str(first), str(first), str(second), "more.jsonl"]
    assert len({text.item for text in stored}) == 4


def test_a_file_that_is_given_twice_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "texts.jsonl", ROW)
    (tmp_path / "link.jsonl").symlink_to(path)
    for other in (path, tmp_path / "link.jsonl", tmp_path / ".." / tmp_path.name / "texts.jsonl"):
        with pytest.raises(InvalidRequest, match=r"texts\.jsonl is given 2 times; give each file once") as caught:
            read(path, other)
        assert caught.value.param == "files"


@pytest.mark.parametrize(
    ("tokens", "grouped"),
    [((None, "end=8", None), True), ((None, "end=8", "end=8"), False), ((None, None, None), False)],
)
def test_samples_are_grouped_by_the_tokens_that_a_sweep_tried(
    tmp_path: Path, tokens: tuple[str | None, ...], grouped: bool
) -> None:
    """The first sample is the baseline's, whose null is no choice of tokens."""
    rows = [
        {"cell_id": "c", "completion": "x", "op": op, "tokens": choice, "target_language": "fr"}
        for op, choice in zip((None, "scale", "scale"), tokens, strict=True)
    ]
    schema = pa.schema([(name, pa.string()) for name in rows[0]])
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), tmp_path / "results.parquet")
    columns = columns_of([tmp_path / "results.parquet"], schema.names)
    assert ("tokens" in columns.by) is grouped


def test_texts_without_a_number_are_one_group(tmp_path: Path) -> None:
    rows = [{**ROW, "factor": factor} for factor in (float("nan"), float("nan"), None)]
    assert {text.group for text in read(write(tmp_path / "texts.jsonl", *rows)).texts} == {(None,)}


@pytest.mark.parametrize(
    ("code", "meant"), [("pt-BR", "pt-BR"), ("por_Latn", "pt"), ("zh-Hant", "zh-Hant"), ("gsw", "gsw")]
)
def test_one_language_of_all_texts_is_any_code_of_a_spec(tmp_path: Path, code: str, meant: str) -> None:
    path = write(tmp_path / "texts.jsonl", {"completion": "Bom dia"})
    stored = read_stored_texts([path], Columns(text="completion", language=code, by=(code,)))
    assert [(text.language, text.group) for text in stored.texts] == [(meant, (code,))]


def test_what_is_neither_a_column_nor_a_code_is_rejected_with_an_example(tmp_path: Path) -> None:
    path = write(tmp_path / "texts.jsonl", ROW)
    with pytest.raises(
        InvalidRequest, match=r"no column 'wanted'.* or the code of a language such as fr, por_Latn or pt-BR"
    ):
        read_stored_texts([path], Columns(text="completion", language="wanted", by=()))


def test_an_invalid_language_code_is_rejected_with_its_line(tmp_path: Path) -> None:
    path = write(tmp_path / "texts.jsonl", ROW, {**ROW, "language": " fr"})
    with pytest.raises(
        InvalidRequest, match=r"texts\.jsonl, line 2: language: .* without spaces .* got ' fr'"
    ) as caught:
        read(path)
    assert caught.value.param == "files"


@pytest.mark.parametrize("value", [[1], {"a": 1}])
def test_a_list_or_an_object_is_no_group(tmp_path: Path, value: object) -> None:
    path = write(tmp_path / "texts.jsonl", ROW, {**ROW, "factor": value})
    with pytest.raises(InvalidRequest, match=r"texts\.jsonl, line 2: factor must be one value to group by") as caught:
        read(path)
    assert caught.value.param == "by"


def test_half_a_character_is_rejected_with_its_line(tmp_path: Path) -> None:
    path = write(tmp_path / "texts.jsonl", ROW, {**ROW, "completion": "a\ud83d", "unused": "\ud83d"})
    with pytest.raises(InvalidRequest, match=r"line 2: completion has half a character \(\\ud83d, a lone surrogate\)"):
        read(path)
    assert len(read(write(tmp_path / "texts.jsonl", {**ROW, "unused": "\ud83d"})).texts) == 1


def test_a_line_without_a_column_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "texts.jsonl", ROW, {"completion": "a", "language": "fr"})
    with pytest.raises(InvalidRequest, match=r"texts\.jsonl, line 2 has no column 'factor'; it has: completion, lang"):
        read(path)


def test_a_folder_named_like_a_partition_adds_no_column(tmp_path: Path) -> None:
    path = tmp_path / "factor=7" / "texts.parquet"
    path.parent.mkdir()
    pq.write_table(pa.Table.from_pylist([ROW]), path)
    assert [text.group for text in read(path).texts] == [(1,)]


def test_a_damaged_parquet_file_is_an_error_of_the_request(tmp_path: Path) -> None:
    path = tmp_path / "texts.parquet"
    pq.write_table(pa.table({name: [value] * 5000 for name, value in ROW.items()}), path)
    content = bytearray(path.read_bytes())
    content[4:40] = bytes(36)  # the first page; the schema at the end stays readable
    path.write_bytes(content)
    with pytest.raises(InvalidRequest, match=r"texts\.parquet cannot be read as Parquet") as caught:
        read(path)
    assert caught.value.param == "files"
