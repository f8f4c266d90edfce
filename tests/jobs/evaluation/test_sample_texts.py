"""Whether the samples of a sweep have a text to evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ampsweep.errors import InvalidRequest
from jobs.evaluation.request import parse_evaluation
from jobs.evaluation.sample_texts import require_texts
from jobs.results.schema import SAMPLES
from jobs.storage.local import LocalStorage
from jobs.storage.protocol import StoredFile

SCORED: dict[str, Any] = {"task": "lss", "target_language": "fr", "data_language": "en"}
UNSTEERED: dict[str, Any] = {"task": "generation", "completion": "Hello", "data_language": "en"}
STEERED: dict[str, Any] = {**UNSTEERED, "completion": "Bonjour", "target_language": "fr"}


def samples(folder: Path, *rows: dict[str, Any], row_group: int = 2) -> StoredFile:
    """Return a stored file with these samples, in row groups of two."""
    storage = LocalStorage(folder)
    table = pa.Table.from_pylist([{**dict.fromkeys(SAMPLES.names), **row} for row in rows], schema=SAMPLES)
    with storage.writing("results.parquet") as path:
        pq.write_table(table, path, row_group_size=row_group)
    return StoredFile(storage=storage, name="results.parquet")


def check(file: StoredFile, *needs: str, **fields: Any) -> None:
    require_texts(file, parse_evaluation({"metrics": ["script"], **fields}), needs=frozenset(needs))


def test_one_text_in_a_wanted_language_is_enough(tmp_path: Path) -> None:
    check(samples(tmp_path, *[SCORED] * 4, *[UNSTEERED] * 3, {**STEERED, "target_language": "fr+it"}, STEERED))
    check(samples(tmp_path, UNSTEERED), language="data_language", by=["task"])
    check(samples(tmp_path, UNSTEERED), language="pt-BR", by=["pt-BR"])
    check(samples(tmp_path, UNSTEERED, {**STEERED, "input": "Salut"}), "input")


@pytest.mark.parametrize("rows", [[], [SCORED] * 5, [{**STEERED, "completion": None, "error": "too long"}]])
def test_a_sweep_without_texts_is_refused(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    with pytest.raises(InvalidRequest, match=r"the sweep has no texts: .* a task that generates answers") as refused:
        check(samples(tmp_path, *rows), language="data_language")
    assert refused.value.param == "sweep_id"


@pytest.mark.parametrize(
    ("rows", "needs"),
    [
        ([SCORED, SCORED, UNSTEERED, UNSTEERED], ()),
        ([{**STEERED, "target_language": "fr+it"}, {**STEERED, "target_language": ""}], ()),
        ([SCORED, {**SCORED, "input": "Hello"}, STEERED], ("input",)),
    ],
)
def test_texts_without_a_single_wanted_language_or_an_input_are_refused(
    tmp_path: Path, rows: list[dict[str, Any]], needs: tuple[str, ...]
) -> None:
    with pytest.raises(InvalidRequest, match="no text of the sweep has a single wanted language") as refused:
        check(samples(tmp_path, *rows), *needs)
    assert refused.value.param == "language"
    assert all(f" and {need}" in refused.value.message for need in needs)


@pytest.mark.parametrize("field", ["language", "by"])
def test_a_column_that_does_not_exist_is_refused(tmp_path: Path, field: str) -> None:
    with pytest.raises(
        InvalidRequest, match=r"the samples have.*: sweep_id, cell_id|no column other_column"
    ) as refused:
        check(samples(tmp_path, STEERED), **{field: "other_column" if field == "language" else ["other_column"]})
    assert refused.value.param == field
