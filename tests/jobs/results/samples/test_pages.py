from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.results.samples.pages import SampleFilter, read_page
from jobs.results.schema import SAMPLES
from jobs.storage.local import LocalStorage
from jobs.storage.protocol import StoredFile

STEERED = {"method": "neurons", "op": "scale", "factor": 2.0}
ROWS: list[dict[str, Any]] = [
    {"doc_id": "a", "correct": True, "completion": "one"},
    {"doc_id": "b", "correct": False, "completion": "two", "score": float("nan")},
    {"doc_id": "a", "correct": False, "completion": "un", "target_language": "fr", **STEERED},
    {"doc_id": "b", "correct": True, "completion": "deux", "target_language": "fr", **STEERED},
    {"doc_id": "c", "correct": None, "completion": "trois", "target_language": "fr", **STEERED},
    {"doc_id": "a", "correct": False, "completion": "bir", "target_language": "tr", **STEERED, "selection": "random"},
    {"doc_id": "a", "target_language": "fr", "task": "flores", "completion": "x"},
    {"doc_id": "a", "target_language": "tr", "task": "flores", "completion": "y"},
    {"doc_id": "a", "target_language": "tr", "task": "flores", "completion": "z", **STEERED},
]
CHOICES: list[dict[str, Any]] = [
    {"completion": "all"},
    {"completion": "eight", "tokens": "end=8"},
    {"completion": "drifting", "when": "drift", "part": "answer", "steered_spans": [[2, 5]]},
]


def stored(folder: Path, *, row_group_size: int = 2, without: str | None = None) -> StoredFile:
    rows = [{"task": "generation", "data_language": "en", **row} for row in ROWS]
    table = pa.Table.from_pylist(rows, schema=SAMPLES)
    pq.write_table(
        table if without is None else table.drop_columns(without),
        folder / "results.parquet",
        row_group_size=row_group_size,
    )
    return StoredFile(storage=LocalStorage(folder), name="results.parquet")


def texts(
    file: StoredFile, *, after: int = -1, limit: int = 20, correct: bool | None = None, **equal: Any
) -> list[str]:
    page = read_page(file, SampleFilter(equal=equal, correct=correct), after=after, limit=limit)
    return [sample["completion"] for sample in page.samples]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({}, ["un", "deux", "trois", "bir", "z"]),
        ({"target_language": "fr"}, ["un", "deux", "trois"]),
        ({"target_language": "fra_Latn", "data_language": "eng"}, ["un", "deux", "trois"]),
        ({"task": "flores"}, ["z"]),
        ({"task": "flores", "method": "none"}, ["x", "y"]),
        ({"selection": "none", "task": "generation"}, ["un", "deux", "trois"]),
        ({"selection": "random"}, ["bir"]),
        ({"factor": 2.0, "correct": True}, ["deux"]),
        ({"correct": False}, ["un", "bir"]),
        ({"factor": 3.0}, []),
    ],
)
def test_samples_match_all_filters(tmp_path: Path, wanted: dict[str, Any], expected: list[str]) -> None:
    assert texts(stored(tmp_path), **wanted) == expected


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({}, ["all", "eight", "drifting"]),
        ({"tokens": "end=8"}, ["eight"]),
        ({"tokens": "none", "when": "none", "part": "none"}, ["all"]),
        ({"when": "drift"}, ["drifting"]),
        ({"part": "answer"}, ["drifting"]),
    ],
)
def test_samples_of_one_choice_of_tokens_can_be_chosen(
    tmp_path: Path, wanted: dict[str, Any], expected: list[str]
) -> None:
    rows = [{"task": "generation", "data_language": "en", "doc_id": "a", **STEERED, **choice} for choice in CHOICES]
    pq.write_table(pa.Table.from_pylist(rows, schema=SAMPLES), tmp_path / "results.parquet")
    file = StoredFile(storage=LocalStorage(tmp_path), name="results.parquet")
    assert texts(file, **wanted) == expected
    spans = [sample["steered_spans"] for sample in read_page(file, SampleFilter(equal={}), after=-1, limit=9).samples]
    assert spans == [None, None, [[2, 5]]]


@pytest.mark.parametrize("row_group_size", [1, 2, 100])
@pytest.mark.parametrize("limit", [1, 2, 5])
def test_pages_follow_each_other_without_gaps(tmp_path: Path, row_group_size: int, limit: int) -> None:
    file = stored(tmp_path, row_group_size=row_group_size)
    found, after, has_more = [], -1, True
    while has_more:
        page = read_page(file, SampleFilter(equal={}), after=after, limit=limit)
        assert len(page.samples) <= limit
        found += [sample["completion"] for sample in page.samples]
        after, has_more = int(page.samples[-1]["id"]), page.has_more
    assert found == ["un", "deux", "trois", "bir", "z"]


def test_a_page_reads_no_row_group_that_it_does_not_need(tmp_path: Path) -> None:
    file = stored(tmp_path)
    path = tmp_path / "results.parquet"
    metadata = pq.read_metadata(path)
    last = metadata.row_group(metadata.num_row_groups - 1)
    content = bytearray(path.read_bytes())
    for index in range(last.num_columns):
        column = last.column(index)
        start = column.dictionary_page_offset or column.data_page_offset
        content[start : start + column.total_compressed_size] = bytes(column.total_compressed_size)
    path.write_bytes(content)
    (sample,) = read_page(file, SampleFilter(equal={}), after=-1, limit=1).samples
    assert (sample["completion"], sample["baseline"]["completion"]) == ("un", "one")
    with pytest.raises(OSError, match=r"."):
        read_page(file, SampleFilter(equal={}), after=-1, limit=20)


def test_a_sample_has_the_unsteered_sample_of_its_item(tmp_path: Path) -> None:
    page = read_page(stored(tmp_path), SampleFilter(equal={}), after=-1, limit=20)
    baselines = {sample["completion"]: sample["baseline"] for sample in page.samples}
    assert {text: baseline and baseline["completion"] for text, baseline in baselines.items()} == {
        "un": "one",
        "deux": "two",
        "trois": None,
        "bir": "one",
        "z": "y",
    }
    assert baselines["deux"]["score"] is None, "NaN is no JSON"


def test_columns_that_files_of_earlier_versions_lack_are_null(tmp_path: Path) -> None:
    page = read_page(stored(tmp_path, without="random_seed"), SampleFilter(equal={}), after=-1, limit=1)
    assert page.samples[0]["random_seed"] is None


def test_cells_that_differ_in_any_column_are_found_apart(tmp_path: Path) -> None:
    apart: list[dict[str, Any]] = [
        {"neuron_layer": 0, "neuron_index": 3},
        {"neuron_layer": 0, "neuron_index": 4},
        {"weights": "0.5"},
        {"mode": "paper"},
    ]
    rows = [{"task": "generation", "data_language": "en", "doc_id": "a", **STEERED, **cell} for cell in apart]
    pq.write_table(pa.Table.from_pylist(rows, schema=SAMPLES), tmp_path / "apart.parquet")
    file = StoredFile(storage=LocalStorage(tmp_path), name="apart.parquet")
    for cell in apart:
        (sample,) = read_page(file, SampleFilter(equal=cell), after=-1, limit=9).samples
        assert {name: sample[name] for name in cell} == cell
    neuron = {"neuron_layer": 0, "neuron_index": 3}
    assert (
        read_page(stored(tmp_path, without="neuron_layer"), SampleFilter(equal=neuron), after=-1, limit=9).samples == []
    )
