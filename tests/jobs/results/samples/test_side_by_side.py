from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ampsweep.errors import AmpsweepError
from jobs.results.samples.side_by_side import read_items
from jobs.results.schema import SAMPLES

STEERED = {"method": "neurons", "op": "set", "patch": "max", "factor": 2.0}
ROWS: list[dict[str, Any]] = [
    {"doc_id": "a", "completion": "one"},
    {"doc_id": "b", "completion": "two"},
    {"doc_id": "a", "completion": "in part", "rung": 1},
    {"doc_id": "a", "completion": "in part, steered", "target_language": "fr", "rung": 1, **STEERED},
    {"doc_id": "a", "completion": "un", "target_language": "fr", **STEERED},
    {"doc_id": "b", "completion": "deux", "target_language": "fr", **STEERED},
    {"doc_id": "a", "completion": "bir", "target_language": "tr", **STEERED, "factor": 0.5},
    {"doc_id": "a", "task": "lss", "target_language": "fr", "completion": "lss, fr"},
    {"doc_id": "a", "task": "lss", "target_language": "tr", "completion": "lss, tr"},
    {"doc_id": "a", "task": "lss", "target_language": "tr", "completion": "lss, steered", "correct": True, **STEERED},
]


@pytest.fixture
def results(tmp_path: Path) -> Path:
    rows = [{"task": "generation", "data_language": "en", **row} for row in ROWS]
    path = tmp_path / "results.parquet"
    pq.write_table(pa.Table.from_pylist(rows, schema=SAMPLES), path, row_group_size=2)
    return path


@pytest.mark.parametrize(
    ("where", "items", "expected"),
    [
        ({}, 3, [["one", "un", "bir"], ["two", "deux"], ["lss, tr", "lss, steered"]]),
        ({}, 1, [["one", "un", "bir"], ["lss, tr", "lss, steered"]]),
        ({"target_language": "fr"}, 1, [["one", "un"]]),
        ({"target_language": "fra_Latn"}, 1, [["one", "un"]]),
        ({"factor": "0.5"}, 3, [["one", "bir"]]),
        ({"correct": "true"}, 3, [["lss, tr", "lss, steered"]]),
        ({"task": "generation", "method": "none"}, 1, [["one"]]),
        ({"rung": "1"}, 1, [["one", "in part, steered"]]),
    ],
)
def test_an_item_has_its_unsteered_sample_and_those_that_match(
    results: Path, where: dict[str, str], items: int, expected: list[list[str]]
) -> None:
    found = read_items(results, where, items=items)
    assert [[row["completion"] for row in rows] for rows in found] == expected


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ({"target": "fr"}, "unknown column 'target'"),
        ({"factor": "large"}, "factor is a number; got 'large'"),
        ({"correct": "yes"}, "correct is true or false; got 'yes'"),
        ({"target_language": "ja"}, "no sample has target_language ja; the sweep has fr, tr"),
        ({"factor": "3"}, "no sample has factor 3; the sweep has 2.0, 0.5"),
        ({"task": "lss", "target_language": "fr"}, "`method=none` shows those of the unsteered model"),
    ],
)
def test_what_does_not_match_is_said(results: Path, where: dict[str, str], message: str) -> None:
    with pytest.raises(AmpsweepError, match=re.escape(message)) as raised:
        read_items(results, where, items=3)
    assert raised.value.param == "where"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere.parquet", "there is no file"),
        ("text.parquet", "text.parquet cannot be read as Parquet"),
        ("other.parquet", "other.parquet has no samples of a sweep: it has no column doc_id"),
    ],
)
def test_a_file_without_samples_is_named(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "text.parquet").write_text("no table")
    pq.write_table(pa.table({"x": [1]}), tmp_path / "other.parquet")
    with pytest.raises(AmpsweepError, match=message) as raised:
        read_items(tmp_path / name, {}, items=3)
    assert raised.value.param == "sweep"


def test_a_file_of_an_earlier_version_lacks_columns(results: Path) -> None:
    table = pq.read_table(results)
    pq.write_table(table.drop_columns(["rung", "when", "task_options"]), results)
    (row, *_), *_ = read_items(results, {"task": "generation"}, items=1)
    assert (row["completion"], row["when"], row["task_options"]) == ("one", None, None)
