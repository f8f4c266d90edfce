from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ampsweep.errors import InvalidRequest
from jobs.data.questions import question_files, read_questions
from tests.jobs.cluster import write_jsonl


def texts(folder: Path, language: str) -> list[tuple[int, str]]:
    return [(question.index, question.text) for question in read_questions(folder, language).items]


def test_a_file_for_each_language(tmp_path: Path) -> None:
    (tmp_path / "fra_Latn.txt").write_text("Qui ?\n\nQuoi ?\n", encoding="utf-8")
    write_jsonl(tmp_path / "en.jsonl", [{"question": "Who?"}])
    assert question_files(tmp_path) == {"en": tmp_path / "en.jsonl", "fr": tmp_path / "fra_Latn.txt"}
    assert texts(tmp_path, "fr") == [(0, "Qui ?"), (2, "Quoi ?")]
    assert read_questions(tmp_path, "fr").repairs == {"blank_lines": 1}
    assert texts(tmp_path, "en") == [(0, "Who?")]


def test_a_table_of_all_languages(tmp_path: Path) -> None:
    rows = [
        {"language_code": "en", "question": "Who?", "question_id": 1},
        {"language_code": "fr", "question": " Qui ? ", "question_id": 1},
        {"language_code": "en", "question": "What?", "question_id": 2},
        {"language_code": "fra_Latn", "question": "Quoi ?", "question_id": 2},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "questions.parquet")
    assert question_files(tmp_path) == dict.fromkeys(["en", "fr"], tmp_path / "questions.parquet")
    assert texts(tmp_path, "en") == [(0, "Who?"), (1, "What?")]
    assert texts(tmp_path, "fr") == [(0, "Qui ?"), (1, "Quoi ?")]


def test_a_language_that_was_deleted_after_planning_is_named(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "questions.jsonl", [{"language": "en", "question": "Why?"}])
    for read in (lambda: question_files(tmp_path)["fr"], lambda: read_questions(tmp_path, "fr")):
        with pytest.raises(InvalidRequest, match="has no data for fr; put it back"):
            read()


def test_a_column_of_codes_comes_before_one_of_names(tmp_path: Path) -> None:
    rows = [
        {"language": "English", "language_code": "en", "question": "Who?"},
        {"language": "French", "language_code": "fr", "question": "Qui ?"},
    ]
    write_jsonl(tmp_path / "questions.jsonl", rows)
    assert sorted(question_files(tmp_path)) == ["en", "fr"]
    assert texts(tmp_path, "fr") == [(0, "Qui ?")]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"question": "Who?"}], "line 1: needs one of the columns language_code, language, lang; has question"),
        ([{"language": "en", "answer": "He"}], "line 1: needs one of the columns question, text, sentence, prompt"),
        ([{"language": "en", "question": "Who?"}, {"language": "en"}], "line 2: question must be a text"),
        ([{"language": "en", "question": "Who?"}, {"language": 5, "question": "b"}], "line 2: language must be a text"),
        ([], "questions.jsonl has no rows"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, rows: list[dict[str, object]], message: str) -> None:
    write_jsonl(tmp_path / "questions.jsonl", rows)
    with pytest.raises(InvalidRequest, match=message):
        question_files(tmp_path)


def test_a_folder_without_questions(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="has no <language>"):
        question_files(tmp_path)
