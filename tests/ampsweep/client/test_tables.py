"""Frames of the client: their types, with and without missing values."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ampsweep.client.tables import TableForm, read_table
from ampsweep.errors import InvalidRequest
from jobs.results.schema import SAMPLES, SUMMARY

PANDAS = {
    pa.string(): "str",
    pa.int32(): "Int32",
    pa.int64(): "Int64",
    pa.float64(): "float64",
    pa.bool_(): "boolean",
    pa.list_(pa.float64()): "object",
    pa.list_(pa.int64()): "object",
    pa.list_(pa.list_(pa.int64())): "object",
}
POLARS = {
    pa.string(): pl.String(),
    pa.int32(): pl.Int32(),
    pa.int64(): pl.Int64(),
    pa.float64(): pl.Float64(),
    pa.bool_(): pl.Boolean(),
    pa.list_(pa.float64()): pl.List(pl.Float64()),
    pa.list_(pa.int64()): pl.List(pl.Int64()),
    pa.list_(pa.list_(pa.int64())): pl.List(pl.List(pl.Int64())),
}
VALUES = {
    pa.string(): "a",
    pa.int32(): 1,
    pa.int64(): 2**53 + 1,
    pa.float64(): 0.5,
    pa.bool_(): True,
    pa.list_(pa.float64()): [0.5],
    pa.list_(pa.int64()): [1],
    pa.list_(pa.list_(pa.int64())): [[1, 3]],
}


@pytest.mark.parametrize("schema", [SAMPLES, SUMMARY], ids=["samples", "summary"])
@pytest.mark.parametrize("present", ["all", "some", "none"])
def test_a_column_has_the_same_type_whatever_is_missing(schema: pa.Schema, present: str, tmp_path: Path) -> None:
    full = {field.name: VALUES[field.type] for field in schema}
    rows = {"all": [full, full], "some": [full, {}], "none": [{}, {}]}[present]
    path = tmp_path / "table.parquet"
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)
    frame, table = read_table(path, "pandas"), read_table(path, "polars")
    assert isinstance(frame, pd.DataFrame)
    assert {name: str(kind) for name, kind in frame.dtypes.items()} == {
        field.name: PANDAS[field.type] for field in schema
    }
    assert dict(table.schema) == {field.name: POLARS[field.type] for field in schema}
    assert read_table(path, "arrow").schema.equals(schema)
    for name in ("rung", "random_seed") if present == "some" else ():
        if name in schema.names:
            assert frame[name].tolist()[0] == VALUES[schema.field(name).type], "no integer is rounded"
            assert frame[name].isna().tolist() == [False, True]


def test_an_unknown_form_is_rejected_with_the_known_ones(tmp_path: Path) -> None:
    form: TableForm = "excel"  # type: ignore[assignment]
    with pytest.raises(InvalidRequest, match="known: arrow, pandas, polars"):
        read_table(tmp_path / "none.parquet", form)
