"""Rows with wrong fields are named, repeated ids are made unique, and unusual formats are read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ampsweep.errors import InvalidRequest
from jobs.data.facts import read_facts
from jobs.data.language_files import language_files
from jobs.data.rows import Reading, Row, distinct, read_rows
from jobs.tasks.built_in.include import read_include
from jobs.tasks.built_in.xcopa import read_xcopa
from jobs.tasks.built_in.xwinograd import read_xwinograd
from tests.jobs.cluster import write_facts, write_jsonl

XCOPA = {"idx": 4, "premise": "Piove.", "choice1": "A.", "choice2": "B.", "question": "cause", "label": 1}
XWINOGRAD = {"sentence": "La coupe est lourde, _ est pleine.", "option1": "elle", "option2": "il", "label": 1}
INCLUDE = {"question": "Combien ?", "choices": ["un", "deux", "trois", "quatre"], "label": 1}
Read = Callable[[Path], Reading[Any]]
READERS: list[tuple[Read, dict[str, Any]]] = [
    (read_xcopa, XCOPA),
    (read_xwinograd, XWINOGRAD),
    (read_include, INCLUDE),
]


def row(**values: Any) -> Row:
    return Row(where="fr.jsonl, line 7", number=7, values=values)


@pytest.mark.parametrize(
    ("read", "good", "field", "value", "message"),
    [
        (read_xcopa, XCOPA, "premise", None, "premise must be a text; got null"),
        (read_xcopa, XCOPA, "choice1", ["A."], r"choice1 must be a text; got \['A.'\]"),
        (read_xcopa, XCOPA, "question", 3, "question must be cause or effect; got 3"),
        (read_xcopa, XCOPA, "label", 0.5, "label must be 0 or 1; got 0.5"),
        (read_xcopa, XCOPA, "label", True, "label must be 0 or 1; got True"),
        (read_xcopa, XCOPA, "idx", None, "idx must be a text or a whole number; got null"),
        (read_xwinograd, XWINOGRAD, "sentence", None, "sentence must be a text; got null"),
        (read_xwinograd, XWINOGRAD, "option2", 3, "option2 must be a text; got 3"),
        (read_xwinograd, XWINOGRAD, "label", "1", "label must be 0 or 1; got '1'"),
        (read_include, INCLUDE, "question", 3, "question must be a text; got 3"),
        (read_include, INCLUDE, "choices", ["a", None, "c", "d"], "choices.1 must be a text; got null"),
        (read_include, INCLUDE, "label", None, "label must be a whole number from 0 to 3; got null"),
    ],
)
def test_a_field_of_a_wrong_type_is_named_with_its_file_and_line(
    tmp_path: Path, read: Read, good: dict[str, Any], field: str, value: object, message: str
) -> None:
    write_jsonl(tmp_path / "fr.jsonl", [good, {**good, field: value}])
    text = (tmp_path / "fr.jsonl").read_text("utf-8")
    (tmp_path / "fr.jsonl").write_text(text.replace("\n", "\n\n", 1), encoding="utf-8")
    with pytest.raises(InvalidRequest, match=rf"fr\.jsonl, line 3: {message}"):
        read(tmp_path / "fr.jsonl")


def test_a_row_of_parquet_is_named_by_its_number(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist([INCLUDE, {**INCLUDE, "question": None}]), tmp_path / "fr.parquet")
    with pytest.raises(InvalidRequest, match=r"fr\.parquet, row 2: question must be a text; got null"):
        read_include(tmp_path / "fr.parquet")


@pytest.mark.parametrize(("field", "value"), [("subject", "Paris"), ("object", {"fr": 3}), ("id", [1])])
def test_a_broken_fact_is_named(tmp_path: Path, field: str, value: object) -> None:
    folder = write_facts(tmp_path / "facts")
    good = {"id": "x", "relation": "capital", "subject": {"fr": "a"}, "object": {"fr": "b"}}
    write_jsonl(folder / "facts.jsonl", [good, {**good, field: value}])
    with pytest.raises(InvalidRequest, match=rf"facts\.jsonl, line 2: {field}.* must be"):
        read_facts(folder)


@pytest.mark.parametrize(("read", "good"), READERS)
def test_a_decimal_label_is_read_as_a_whole_number(tmp_path: Path, read: Read, good: dict[str, Any]) -> None:
    write_jsonl(tmp_path / "fr.jsonl", [{**good, "label": 1.0}, good])
    reading = read(tmp_path / "fr.jsonl")
    assert [repr(item.label) for item in reading.items] == ["1", "1"]
    assert reading.repairs["decimal_labels"] == 1


@pytest.mark.parametrize(("read", "good"), READERS)
def test_items_with_the_same_id_are_told_apart_by_their_position(
    tmp_path: Path, read: Read, good: dict[str, Any]
) -> None:
    key = "idx" if "idx" in good else "id"
    write_jsonl(tmp_path / "fr.jsonl", [{**good, key: name} for name in ("a", "b", "a", "a")])
    reading = read(tmp_path / "fr.jsonl")
    assert [item.id for item in reading.items] == ["a", "b", "a#2", "a#3"]
    assert reading.repairs == {"repeated_ids": 2}


def test_a_generated_id_never_equals_the_id_of_another_item() -> None:
    assert distinct(["a", "a#2", "a", "a"]) == (["a", "a#2", "a#3", "a#4"], 2)
    assert distinct(["a", "b"]) == (["a", "b"], 0)


def test_repeated_facts_of_a_file_a_language_are_kept_and_aligned_by_position(tmp_path: Path) -> None:
    for language in ("en", "fr"):
        rows = [
            {"relation": "P36", "lineid": 7, "sub_label": f"{name}-{language}", "obj_label": f"{name}-{language}"}
            for name in ("one", "two")
        ]
        write_jsonl(tmp_path / f"{language}.jsonl", rows)
    write_jsonl(tmp_path / "templates.jsonl", [{"relation": "P36", "lang": "en", "template": "[X] has [Y]"}])
    fact_set = read_facts(tmp_path)
    assert [(fact.id, dict(fact.object)) for fact in fact_set.facts] == [
        ("P36-7", {"en": "one-en", "fr": "one-fr"}),
        ("P36-7#2", {"en": "two-en", "fr": "two-fr"}),
    ]
    assert fact_set.repeated_ids == 2


def test_a_byte_order_mark_does_not_affect_the_first_row(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "fr.jsonl", [INCLUDE, INCLUDE])
    (tmp_path / "fr.jsonl").write_bytes(b"\xef\xbb\xbf" + (tmp_path / "fr.jsonl").read_bytes())
    assert [one.values for one in read_rows(tmp_path / "fr.jsonl")] == [INCLUDE, INCLUDE]


def test_a_lone_surrogate_is_escaped_in_errors() -> None:
    with pytest.raises(InvalidRequest, match=r"line 7: label must be 0 or 1; got '\\ud83d'"):
        row(label="\ud83d").number_below("label", 2)


def test_a_duplicate_key_in_a_row_is_named(tmp_path: Path) -> None:
    (tmp_path / "fr.jsonl").write_text('{"question": "a", "question": "b"}\n')
    with pytest.raises(InvalidRequest, match=r"fr\.jsonl, line 1.* 'question' occurs twice"):
        read_rows(tmp_path / "fr.jsonl")


@pytest.mark.parametrize("name", ["fr.jsonl", "fr.parquet"])
def test_a_file_without_rows_is_refused_unless_it_may_be_empty(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if path.suffix == ".parquet":
        pq.write_table(pa.table({"text": pa.array([], pa.string())}), path)
    else:
        path.write_text("\n\n")
    with pytest.raises(InvalidRequest, match=rf"{name} has no rows; add some, or leave its language out"):
        read_rows(path)
    assert read_rows(path, allow_empty=True) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"qestion": "a", "label": 1}', "line 1 has no question; it has: label, qestion. Rename 'qestion'?"),
        (b'[{"question": "a"}]', "line 1 must be an object of keys and values; got a list; write one object a line"),
        (b"question,label\na,1", "if it is a table, convert it: pandas.read_csv"),
        (b"question;label\na;1", "if it is a table, convert it: pandas.read_csv"),
        (b"{'question': 'a'}", "write double quotes; json.dumps"),
        ('{"question": "a"}'.encode("utf-16"), "it is UTF-16; save the file in UTF-8"),
    ],
)
def test_a_file_of_another_form_says_what_to_do(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "fr.jsonl"
    path.write_bytes(content)
    with pytest.raises(InvalidRequest) as refused:
        read_rows(path, required=["question"])
    assert message in refused.value.message


def test_a_missing_or_quoted_number_is_named(tmp_path: Path) -> None:
    path = tmp_path / "fr.jsonl"
    path.write_text('{"question": "a", "lable": 1}\n{"label": "1"}\n')
    missing, quoted = read_rows(path)
    with pytest.raises(InvalidRequest, match=r"it is missing, there are: lable, question\. Rename 'lable'\?"):
        missing.number_below("label", 4)
    with pytest.raises(InvalidRequest, match="from 0 to 3; got '1'; drop the quotes"):
        quoted.number_below("label", 4)


def test_a_table_is_not_a_file_of_a_language_but_can_become_one(tmp_path: Path) -> None:
    (tmp_path / "fr.csv").write_text("question\na\n")
    with pytest.raises(InvalidRequest, match=r"it has: fr\.csv; convert fr\.csv: pandas\.read_csv\(FILE\)"):
        language_files(tmp_path)
