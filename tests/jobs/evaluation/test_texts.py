from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.evaluation.texts import SWEEP_GROUP, columns_of
from jobs.results.schema import SAMPLES

STEERED = {"cell_id": "cell_1", "completion": "Bonjour", "task": "generation", "data_language": "fr", "factor": 2.0}
STEERED |= {"target_language": "fr", "method": "neurons", "op": "scale", "scope": "all", "mode": "corrected"}
BASELINE = {**STEERED, "method": None, "op": None, "factor": None, "scope": None, "target_language": None}
USUAL = (*SWEEP_GROUP, "target_language")


def grouped_by(folder: Path, *rows: dict[str, Any]) -> tuple[str, ...]:
    path = folder / "results.parquet"
    pq.write_table(pa.Table.from_pylist(list(rows), schema=SAMPLES), path)
    return columns_of([path], SAMPLES.names).by


def test_results_of_one_condition_are_grouped_by_the_usual_columns(tmp_path: Path) -> None:
    assert grouped_by(tmp_path, STEERED, BASELINE) == USUAL
    assert grouped_by(tmp_path) == USUAL


def test_an_axis_with_several_values_is_a_group(tmp_path: Path) -> None:
    by = grouped_by(tmp_path, STEERED, {**STEERED, "scope": "generation"}, BASELINE)
    assert by == (*SWEEP_GROUP, "scope", "target_language")


@pytest.mark.parametrize(
    ("name", "value"),
    [("rung", 1), ("tokens", '{"positions": [0]}'), ("weights", "scores"), ("task_options", "n=4"), ("layers", "0-3")],
)
def test_conditions_that_differ_by_null_are_not_one_group(tmp_path: Path, name: str, value: object) -> None:
    assert grouped_by(tmp_path, STEERED, {**STEERED, name: value}, BASELINE) == (*SWEEP_GROUP, name, "target_language")
