"""Files that somebody has mixed up or changed: the report says which, and does not fail in a query."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ampsweep.errors import DamagedFile, InvalidRequest, NotFound
from jobs.report.data import ReportData
from jobs.results.metadata_keys import SWEEP_ID
from jobs.results.schema import SAMPLES, SUMMARY
from tests.jobs.report.control_sweep import control_summary, write_sweep


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_sweep(tmp_path, control_summary(("fr", "ja")))
    return tmp_path


def rewrite(path: Path, columns: Mapping[str, pa.DataType]) -> None:
    """Write a file again with other types of some columns."""
    table = pq.read_table(path)
    for name, kind in columns.items():
        place = table.column_names.index(name)
        table = table.set_column(place, name, table[name].cast(kind))
    pq.write_table(table, path)


def test_samples_and_summary_of_two_sweeps_are_refused(folder: Path) -> None:
    path = folder / "summary.parquet"
    table = pq.read_table(path)
    own = pq.read_schema(folder / "results.parquet").metadata[SWEEP_ID.encode()].decode()
    for sweep_id in (own, "swp_other"):
        pq.write_table(table.replace_schema_metadata({SWEEP_ID: sweep_id}), path)
        if sweep_id == own:
            ReportData(folder).close()
            continue
        with pytest.raises(InvalidRequest, match=f"is of sweep {own}, but summary.parquet of sweep swp_other; give"):
            ReportData(folder)


def test_columns_that_another_program_stored_in_its_own_types_are_read(folder: Path) -> None:
    with closing(ReportData(folder)) as data:
        before = data.query("SELECT * FROM summary")
    texts = {"task": pa.large_string(), "metric": pa.dictionary(pa.int32(), pa.string())}
    rewrite(folder / "summary.parquet", {**texts, "n": pa.int32()})
    with closing(ReportData(folder)) as data:
        after = data.query("SELECT * FROM summary")
    assert after.equals(before)


@pytest.mark.parametrize(
    ("name", "column", "schema"), [("results", "cell_id", SAMPLES), ("summary", "metric", SUMMARY)]
)
def test_a_column_with_other_content_is_named(folder: Path, name: str, column: str, schema: pa.Schema) -> None:
    path = folder / f"{name}.parquet"
    table = pq.read_table(path)
    wrong = pa.array([[1]] * table.num_rows, pa.list_(pa.int64()))
    pq.write_table(table.set_column(schema.get_field_index(column), column, wrong), path)
    with pytest.raises(InvalidRequest, match=rf"{name}\.parquet was changed .* the column {column} is list") as caught:
        ReportData(folder)
    assert caught.value.param == "sweep"


def test_numbers_that_are_infinite_count_as_missing(folder: Path) -> None:
    path = folder / "summary.parquet"
    table = pq.read_table(path)
    values = [math.inf, -math.inf, math.nan, *table["value"].to_pylist()[3:]]
    place = table.column_names.index("value")
    pq.write_table(table.set_column(place, "value", pa.array(values, table["value"].type)), path)
    with closing(ReportData(folder)) as data:
        read = data.query("SELECT value FROM summary")["value"].to_pylist()
    assert read[:3] == [None] * 3
    assert read[3:] == values[3:]


def test_what_is_missing_or_damaged_is_named(folder: Path) -> None:
    (folder / "summary.parquet").write_bytes(b"PAR1")
    with pytest.raises(DamagedFile, match=r"summary\.parquet"):
        ReportData(folder)
    (folder / "summary.parquet").unlink()
    with pytest.raises(NotFound, match=r"no summary\.parquet"):
        ReportData(folder)


@pytest.mark.parametrize("name", ["summary", "neurons"])
def test_a_parquet_file_of_something_else_is_refused_by_name(folder: Path, name: str) -> None:
    pq.write_table(pa.table({"a": [1]}), folder / f"{name}.parquet")
    with pytest.raises(InvalidRequest, match=rf"{name}\.parquet is not a file of a sweep: it lacks the columns"):
        ReportData(folder)
